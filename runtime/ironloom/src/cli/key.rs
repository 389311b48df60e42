//! `ironloom key`: the keys that sign packages and catalogs.

mod passphrase;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::json;

pub(super) use self::passphrase::Passphrase;
use super::failure::{Failure, Outcome};
use super::{Global, output};
use ironloom_storage::small_files;
use ironloom_trust::key::{LockedKey, MAX_KEY_FILE, PublicKey, SecretKey, SecretKeyError};
use ironloom_trust::rotation::{Rotation, is_prefix};

/// Makes and shows keys that sign. A secret key is a file, encrypted with a passphrase (PKCS #8 in PEM, as OpenSSL
/// reads it); the public one is a line of text, `ed25519:…`.
#[derive(Args, Debug)]
pub(super) struct Key {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key. Its passphrase has 8 characters at least
    New {
        /// The file for the secret key. It must not exist
        file: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Show the public key of a secret one
    Show {
        /// The file of the secret key
        file: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Say with an old key that a new one takes its place
    Rotate {
        /// The file of the secret key that signed until now
        file: PathBuf,
        /// The public key that signs from now on
        #[arg(long, value_name = "KEY")]
        to: PublicKey,
        /// The apps that this is about: an id, or the beginning of ids up to a dot, such as `com.example`
        #[arg(long, value_name = "ID")]
        apps: String,
        /// The file for the statement
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
}

impl Key {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.command {
            Command::New { file, passphrase } => {
                let key = SecretKey::generate().context("no key can be made")?;
                write_new(&file, &key, &passphrase)?;
                show(global, key.public())?;
                output::note(&format!(
                    "the secret key is in {}; keep it where nobody else can read it",
                    file.display()
                ));
                Ok(())
            }
            Command::Show { file, passphrase } => show(global, open(&file, &passphrase)?.public()),
            Command::Rotate { file, to, apps, output: statement, passphrase } => {
                output::check_new(&statement)?;
                let key = open(&file, &passphrase)?;
                let from = key.public();
                if from == to {
                    return Err(Failure::Misuse("--to: that is the old key itself".to_owned()));
                }
                if !is_prefix(&apps) {
                    return Err(Failure::Misuse(format!(
                        "--apps: {apps:?} is no app id, nor the beginning of one up to a dot"
                    )));
                }
                let text =
                    format!("{to} takes the place of {from} for {apps}, says {}\n", statement.display());
                let json = || json!({"from": from, "to": to, "apps": apps, "file": statement});
                let mut envelope = Rotation { from, to, apps: apps.clone() }.to_envelope();
                envelope.sign(&key);
                small_files::write(&statement, envelope.to_json().as_bytes())
                    .with_context(|| format!("can't write {}", statement.display()))?;
                output::print_or_json(global, &text, json)
            }
        }
    }
}

fn show(global: &Global, key: PublicKey) -> Outcome {
    let json = || json!({"key": key, "algorithm": key.algorithm().name()});
    output::print_or_json(global, &format!("{key}\n"), json)
}

/// Writes a key's file, for its owner alone; never over another one.
fn write_new(file: &Path, key: &SecretKey, passphrase: &Passphrase) -> Result<(), Failure> {
    let exists = || {
        Failure::File(format!("{}: exists already; a key is never written over another one", file.display()))
    };
    if file.exists() {
        return Err(exists());
    }
    let pem = key.to_pem(&passphrase.new_one()?).map_err(|error| Failure::Misuse(error.to_string()))?;
    let written = || -> std::io::Result<()> {
        let written = small_files::unnamed(file, pem.as_bytes())?;
        written.as_file().sync_all()?;
        written.persist_noclobber(file)?;
        Ok(())
    };
    match written() {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists()),
        Err(error) => {
            Err(anyhow::Error::new(error).context(format!("can't write {}", file.display())).into())
        }
    }
}

/// Reads a secret key.
pub(super) fn open(file: &Path, passphrase: &Passphrase) -> Result<SecretKey, Failure> {
    let pem = small_files::read_secret_text(file, MAX_KEY_FILE);
    let pem = pem.map_err(|error| Failure::File(error.to_string()))?;
    let wrong = |error: SecretKeyError| Failure::File(format!("{}: {error}", file.display()));
    let locked = LockedKey::read(&pem).map_err(wrong)?;
    locked.open(&passphrase.of(file)?).map_err(wrong)
}
