//! `ironloom completions`.

use clap::{Args, CommandFactory as _};
use clap_complete::aot::{Shell, generate};

use super::failure::Outcome;
use super::{Cli, output};

/// Prints completions for a shell.
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self) -> Outcome {
        let mut script = Vec::new();
        generate(self.shell, &mut Cli::command(), "ironloom", &mut script);
        output::print(&String::from_utf8_lossy(&script))
    }
}
