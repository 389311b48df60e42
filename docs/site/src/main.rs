//! The documentation as a site: `cargo xtask docs`.

mod generated;
mod serve;
mod wit;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use mdbook_driver::MDBook;

use crate::generated::Generated;

/// Makes the documentation as a site in target/docs, and serves it.
#[derive(Parser, Debug)]
struct Arguments {
    /// Only make it
    #[arg(long)]
    build_only: bool,
    /// The port on loopback; 0: any that is free
    #[arg(long, default_value_t = 7421)]
    port: u16,
    /// The folder of the site
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().context("the project's folder is gone")?;
    let to = arguments.to.unwrap_or_else(|| root.join("target/docs"));
    build(&root, &binary()?, &to)?;
    eprintln!("made {}", to.join("index.html").display());
    if arguments.build_only { Ok(()) } else { serve::run(&to, arguments.port) }
}

/// The program that tells of its commands and its configuration: `IRONLOOM_BIN`, or the one beside this.
fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("IRONLOOM_BIN") {
        return Ok(path.into());
    }
    Ok(std::env::current_exe()?.with_file_name("ironloom"))
}

/// Makes the site of the project in `root`.
fn build(root: &Path, binary: &Path, to: &Path) -> Result<()> {
    let mut book = MDBook::load(root.join("docs"))?;
    book.config.build.build_dir = to.to_owned();
    book.with_preprocessor(Generated::new(root, binary));
    book.build()
}
