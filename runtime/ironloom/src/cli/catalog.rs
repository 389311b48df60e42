//! `ironloom catalog`: making catalogs of apps, and the catalogs that a server knows.

pub(super) mod known;
mod pending;
mod reach;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

pub(super) use self::reach::Reach;
use super::failure::{Failure, Outcome};
use super::key::{self, Passphrase};
use super::{Global, output};
use crate::catalogs::author::{AuthorError, Count, Folder, Signed};
use crate::catalogs::registry::{self, Place, PushError, Pushed};
use ironloom_apps::quantity::Span;
use ironloom_trust::catalog::root::Root;
use ironloom_trust::envelope::Keys;
use ironloom_trust::key::PublicKey;
use ironloom_trust::rotation::Rotation;
use ironloom_trust::strict::Integer;
use ironloom_types::clock::host_time;
use ironloom_types::text::{clean, listed};

/// Adds catalogs of apps to a server, and looks through them. With `root`, `build`, `sign` and `push` (their lines begin with
/// "Make:"), which need no server, makes one: a folder of static files, for any web server, object store, registry or USB
/// stick.
#[derive(Args, Debug)]
pub(super) struct Catalog {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Known(known::Known),
    /// Make: the next root of a catalog, which says whose signatures count. Sign it afterwards
    Root(MakeRoot),
    /// Make: the next index of a catalog, from catalog.toml and the packages. Sign it afterwards
    Build {
        /// The catalog's folder
        folder: PathBuf,
        /// Copy this package into the catalog first; more than once for several
        #[arg(long, value_name = "PACKAGE")]
        add: Vec<PathBuf>,
    },
    /// Make: show what is new in the next root and index, and sign them as far as a key may
    Sign {
        /// The catalog's folder
        folder: PathBuf,
        /// The file of the secret key, as `ironloom key new` makes it
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        #[command(flatten)]
        passphrase: Passphrase,
    },
    /// Make: bring a signed catalog into a registry
    Push {
        /// The catalog's folder
        folder: PathBuf,
        /// The repository, as oci://HOST/REPOSITORY[:TAG]; oci+http://… without TLS
        place: String,
        #[command(flatten)]
        reach: Reach,
    },
}

/// All that isn't given stays as the root before has it.
#[derive(Args, Debug)]
struct MakeRoot {
    /// The catalog's folder, with catalog.toml
    folder: PathBuf,
    /// A public key that signs this root and the next; more than once for several. Keep the secret ones offline
    #[arg(long, value_name = "KEY")]
    root_key: Vec<PublicKey>,
    /// The number of them that must sign [default: 1]
    #[arg(long, value_name = "N")]
    threshold: Option<u8>,
    /// A public key that signs indexes; more than once for several
    #[arg(long, value_name = "KEY")]
    index_key: Vec<PublicKey>,
    /// The number of them that must sign [default: 1]
    #[arg(long, value_name = "N")]
    index_threshold: Option<u8>,
    /// The time for which the root holds
    #[arg(long, value_name = "SPAN", default_value = "730 d")]
    valid_for: Span,
    /// Say that a publisher's lost key has another one in its place: the old key, the new one, and the app ids that this is
    /// about
    #[arg(long, num_args = 3, value_names = ["OLD", "NEW", "ID"])]
    rotate: Vec<String>,
    /// Put it in the place of a next root that waits with signatures, which are lost
    #[arg(long)]
    replace: bool,
}

impl Catalog {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.command {
            Command::Known(known) => known.run(global),
            Command::Root(root) => root.run(global),
            Command::Build { folder, add } => build(global, &Folder(folder), &add),
            Command::Sign { folder, key, passphrase } => {
                let folder = Folder(folder);
                // Before the passphrase is asked for, so that one can still think better of it.
                pending::lines(&folder.pending()?).iter().for_each(|line| output::note(line));
                let signed = folder.sign(&key::open(&key, &passphrase)?)?;
                let json = || signed.iter().map(signed_json).collect();
                output::print_or_json(global, &signed_text(&signed), json)
            }
            Command::Push { folder, place, reach } => push(global, &Folder(folder), &place, reach),
        }
    }
}

impl MakeRoot {
    fn run(self, global: &Global) -> Outcome {
        let folder = Folder(self.folder.clone());
        let plan = folder.plan()?;
        let waits = folder.signers_of_next_root()?;
        if !waits.is_empty() && !self.replace {
            return Err(Failure::Misuse(format!(
                "a next root waits, signed by {}: have the others sign it, or make another one in its place with --replace",
                listed(&waits)
            )));
        }
        let before = folder.root()?;
        let of = |keys: Vec<PublicKey>, threshold: Option<u8>, before: Option<&Keys>, flag: &str| {
            let keys: BTreeSet<_> = match before {
                Some(before) if keys.is_empty() => before.keys.clone(),
                _ => keys.into_iter().collect(),
            };
            if keys.is_empty() {
                return Err(Failure::Misuse(format!("the first root names its keys: {flag} KEY")));
            }
            let threshold = threshold.or(before.map(|before| before.threshold)).unwrap_or(1);
            Ok(Keys { threshold, keys })
        };
        let root_keys =
            of(self.root_key, self.threshold, before.as_ref().map(|root| &root.root), "--root-key")?;
        let index_keys =
            of(self.index_key, self.index_threshold, before.as_ref().map(|root| &root.index), "--index-key")?;
        let old_keys = before.as_ref().map(|root| (root.version, root.root.clone()));
        let version = before.as_ref().map_or(0, |root| root.version.get()) + 1;
        let version = Integer::new(version)
            .ok_or_else(|| Failure::Misuse("the root has used up all version numbers".to_owned()))?;
        let mut rotations = before.map_or_else(Vec::new, |root| root.rotations);
        if let [from, to, apps] = self.rotate.as_slice() {
            let key =
                |text: &String| text.parse().map_err(|error| Failure::Misuse(format!("--rotate: {error}")));
            rotations.push(Rotation { from: key(from)?, to: key(to)?, apps: apps.clone() });
        }
        let issued = host_time();
        let root = Root {
            catalog: plan.name,
            version,
            issued,
            expires: issued.plus(self.valid_for.0),
            root: root_keys,
            index: index_keys,
            rotations,
        };
        folder.write_root(&root)?;
        let keys =
            |of: &str, keys: &Keys| format!("{} of the {} keys of {of}", keys.threshold, keys.keys.len());
        let mut who = format!("{} of its {} keys", root.root.threshold, root.root.keys.len());
        if let Some((number, before)) = &old_keys {
            who = format!("{who}, and {}", keys(&format!("root {number}"), before));
        }
        let text = format!(
            "root {version} of {} is made; {who} must sign it: `ironloom catalog sign {} --key FILE`\n",
            root.catalog,
            self.folder.display()
        );
        output::print_or_json(global, &text, || json!({"catalog": root.catalog, "root": version}))
    }
}

fn build(global: &Global, folder: &Folder, add: &[PathBuf]) -> Outcome {
    for package in add {
        folder.add(package)?;
    }
    let built = folder.build(host_time())?;
    let index = &built.index;
    let versions: usize = index.apps.iter().map(|app| app.versions.len()).sum();
    let mut text = format!(
        "index {} of {}: {} apps in {versions} versions; it expires at {}\n",
        index.version,
        index.catalog,
        index.apps.len(),
        known::second(index.expires)
    );
    if built.signers.is_empty() {
        text.push_str("the catalog has no root yet, which says whose signatures count; `ironloom catalog root` makes one\n");
    } else {
        text.push_str(&format!(
            "{} of {} keys must sign it: `ironloom catalog sign {} --key FILE`\n",
            built.needed,
            built.signers.len(),
            folder.0.display()
        ));
    }
    output::print_or_json(
        global,
        &text,
        || json!({"catalog": index.catalog, "version": index.version, "apps": index.apps.len(), "versions": versions, "expires": index.expires}),
    )
}

fn push(global: &Global, folder: &Folder, place: &str, reach: Reach) -> Outcome {
    let to = Place::new(place).ok_or_else(|| {
        Failure::Misuse(format!("{place:?} is no repository of a registry, as oci://HOST/REPOSITORY"))
    })?;
    let pushed =
        registry::push(folder, &to, &reach.access(global), output::note).map_err(|error| match error {
            PushError::Folder(error) => error.into(),
            error => Failure::File(clean(&error.to_string()).into_owned()),
        })?;
    let Pushed { catalog, version, new, packages } = pushed;
    let text = format!("{to}: index {version} of {catalog}; {packages} packages, of which {new} are new\n");
    output::print_or_json(
        global,
        &text,
        || json!({"catalog": catalog, "version": version, "packages": packages, "new": new, "place": to.to_string()}),
    )
}

fn signed_text(signed: &[Signed]) -> String {
    let line = |part: &Signed| {
        let Signed { part, signatures, published } = part;
        if signatures.is_empty() {
            return format!(
                "{part} is signed: no root is in its place yet, so nobody knows whose signatures count\n"
            );
        }
        let counts: Vec<String> = signatures.iter().map(count_text).collect();
        let state = if *published { "in its place" } else { "more are needed" };
        format!("{part} is signed by {}: {state}\n", counts.join(" and "))
    };
    signed.iter().map(line).collect()
}

fn count_text(count: &Count) -> String {
    format!("{} of {} keys of root {}", count.has, count.needed, count.of_root)
}

fn signed_json(part: &Signed) -> serde_json::Value {
    let count = |count: &Count| json!({"root": count.of_root, "has": count.has, "needed": count.needed});
    let counts: Vec<_> = part.signatures.iter().map(count).collect();
    json!({"part": part.part, "published": part.published, "signatures": counts})
}

impl From<AuthorError> for Failure {
    fn from(error: AuthorError) -> Self {
        match error {
            // Its problems have lines of their own.
            AuthorError::Plan { .. } => Self::File(error.to_string()),
            error => Self::File(clean(&error.to_string()).into_owned()),
        }
    }
}
