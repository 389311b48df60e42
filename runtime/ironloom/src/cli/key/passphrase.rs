//! The passphrase of a secret key: from a file, from the environment, or from whoever sits before the terminal.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::super::failure::Failure;
use ironloom_storage::small_files;

/// The environment variable that may have it.
const VARIABLE: &str = "IRONLOOM_PASSPHRASE";
/// The largest file of a passphrase, in bytes.
const MAX_BYTES: u64 = 4096;

// No doc comment: clap would show it as what the command is about.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Passphrase {
    /// A file with the passphrase, in one line. Without it: IRONLOOM_PASSPHRASE, or a question on the terminal
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Passphrase {
    /// The passphrase of a key that there is.
    pub(super) fn of(&self, key: &Path) -> Result<Zeroizing<String>, Failure> {
        self.given()?.map_or_else(|| ask(&format!("Passphrase of {}: ", key.display())), Ok)
    }

    /// The passphrase for a new key; whoever types it types it twice.
    pub(super) fn new_one(&self) -> Result<Zeroizing<String>, Failure> {
        if let Some(given) = self.given()? {
            return Ok(given);
        }
        let first = ask("Passphrase for the new key: ")?;
        let second = ask("The same once more: ")?;
        if first != second {
            return Err(Failure::Misuse("the two passphrases differ".to_owned()));
        }
        Ok(first)
    }

    fn given(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        if let Some(file) = &self.passphrase_file {
            let text = small_files::read_secret_text(file, MAX_BYTES).map(Zeroizing::new);
            let text = text.map_err(|error| Failure::File(error.to_string()))?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.contains('\n') {
                return Err(Failure::File(format!("{}: has more than one line", file.display())));
            }
            return Ok(Some(Zeroizing::new(line.to_owned())));
        }
        Ok(std::env::var(VARIABLE).ok().map(Zeroizing::new))
    }
}

fn ask(question: &str) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Misuse(format!(
            "a passphrase is needed, and there is no terminal to ask on; use --passphrase-file FILE or {VARIABLE}"
        )));
    }
    let answer = rpassword::prompt_password(question);
    answer.map(Zeroizing::new).map_err(|error| anyhow::Error::new(error).context("no passphrase").into())
}
