//! `ironloom new`: an app to start from, which builds anywhere, since it includes SDK and interfaces.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use include_dir::{Dir, DirEntry, include_dir};

use super::build::{check_app_name, check_crate_name, within};

static RUST: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/rust");
static PYTHON: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/python");
static JAVASCRIPT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/javascript");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");
/// The guide, which the template's README points to.
static GUIDE: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../docs/src/develop");
/// Its pages that only the site can show, since it makes them from other files.
const MADE_BY_THE_SITE: [&str; 2] = ["sdk.md", "wit.md"];
static SDK_README: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk/README.md"));
/// The template's folder within the SDK's.
const TEMPLATE: &str = "template";
/// Parts of the SDK's folder that an app doesn't need.
const NOT_NEEDED: [&str; 3] = [TEMPLATE, "tests", "target"];
/// The placeholder for the app's name in the template.
const NAME: &str = "{{name}}";

/// Makes a new app in a folder of its name.
#[derive(Args, Debug)]
pub(crate) struct NewArgs {
    /// The app's name: a to z, 0 to 9 and `-`
    pub name: String,
    /// The language to write it in
    #[arg(long, value_enum, value_name = "LANGUAGE", default_value = "rust")]
    pub language: Language,
    /// The parent folder of the app's new folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub into: PathBuf,
}

/// A language that there is a template for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Language {
    /// With the SDK; small and fast
    Rust,
    /// With componentize-py
    Python,
    /// With componentize-js
    #[value(alias = "js")]
    Javascript,
}

impl Language {
    /// The command that runs an app's tests.
    fn test(self) -> &'static str {
        match self {
            Self::Rust => "cargo test",
            Self::Python => "python3 -m unittest",
            Self::Javascript => "npm ci && npm test",
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &NewArgs) -> anyhow::Result<()> {
    let folder = new(&args.name, args.language, &args.into)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", folder.display())?;
    writeln!(
        std::io::stderr().lock(),
        "made an app; next:\n  cd {}\n  {}\n  ironloom build",
        folder.display(),
        args.language.test()
    )?;
    Ok(())
}

/// Writes a new app and gives its folder.
///
/// # Errors
/// A name that is no good, a folder that is there already, and files that can't be written.
pub(crate) fn new(name: &str, language: Language, into: &Path) -> anyhow::Result<PathBuf> {
    check_app_name(name)?;
    if language == Language::Rust {
        check_crate_name(name)?;
    }
    let folder = within(into, name);
    if folder.exists() {
        bail!("{} exists already; choose another name, or remove it", folder.display());
    }
    fs::create_dir_all(into).with_context(|| format!("can't create the folder {}", into.display()))?;
    // Made under another name and moved, so that there is all of it or nothing.
    let making = tempfile::Builder::new().prefix(".ironloom-new-").tempdir_in(into)?;
    let write = || match language {
        Language::Rust => write_rust(name, making.path()),
        Language::Python => write_other(&PYTHON, name, "/target\n__pycache__/\n", making.path()),
        Language::Javascript => write_other(&JAVASCRIPT, name, "/target\n/node_modules\n", making.path()),
    };
    write().with_context(|| format!("can't write the app in {}", into.display()))?;
    fs::set_permissions(making.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let made = making.keep();
    fs::rename(&made, &folder).with_context(|| format!("can't create the folder {}", folder.display()))?;
    Ok(folder)
}

fn write_template(sdk: &Dir<'_>, name: &str, to: &Path) -> std::io::Result<()> {
    let template =
        sdk.get_dir(TEMPLATE).ok_or_else(|| std::io::Error::other("this ironloom has no template"))?;
    write_dir(template, TEMPLATE, &[], to, &|text| text.replace(NAME, name))
}

/// An app in Rust, with SDK and interfaces as crates take them.
fn write_rust(name: &str, to: &Path) -> std::io::Result<()> {
    write_template(&RUST, name, to)?;
    write_dir(&RUST, "", &NOT_NEEDED, &to.join("ironloom/sdk/rust"), &str::to_owned)?;
    fs::write(to.join("ironloom/sdk/README.md"), SDK_README)?;
    write_dir(&GUIDE, "", &MADE_BY_THE_SITE, &to.join("ironloom/guide"), &str::to_owned)?;
    write_dir(&WIT, "", &[], &to.join("ironloom/wit"), &str::to_owned)?;
    fs::write(to.join(".gitignore"), "/target\n")
}

/// An app in another language, with the interfaces where its toolchain looks for them: beside the app's world.
fn write_other(sdk: &Dir<'_>, name: &str, ignored: &str, to: &Path) -> std::io::Result<()> {
    write_template(sdk, name, to)?;
    write_dir(sdk, "", &NOT_NEEDED, to, &str::to_owned)?;
    write_dir(&WIT, "", &["README.md", "world.wit"], &to.join("wit"), &str::to_owned)?;
    let world =
        WIT.get_file("world.wit").ok_or_else(|| std::io::Error::other("this ironloom has no worlds"))?;
    fs::create_dir_all(to.join("wit/deps/platform"))?;
    fs::write(to.join("wit/deps/platform/world.wit"), world.contents())?;
    write_dir(&GUIDE, "", &MADE_BY_THE_SITE, &to.join("guide"), &str::to_owned)?;
    fs::write(to.join(".gitignore"), ignored)
}

/// Writes what is in a folder of the binary, but for some of its entries.
fn write_dir(
    dir: &Dir<'_>,
    prefix: &str,
    without: &[&str],
    to: &Path,
    change: &dyn Fn(&str) -> String,
) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in dir.entries() {
        let path = entry.path().strip_prefix(prefix).unwrap_or(entry.path());
        if without.iter().any(|name| path == Path::new(name)) || path.ends_with("__pycache__") {
            continue;
        }
        match entry {
            // Paths are from the outermost folder on, so what is further in goes to the same place.
            DirEntry::Dir(dir) => {
                fs::create_dir_all(to.join(path))?;
                write_dir(dir, prefix, &[], to, change)?;
            }
            DirEntry::File(file) => match file.contents_utf8() {
                Some(text) => fs::write(to.join(path), change(text))?,
                None => fs::write(to.join(path), file.contents())?,
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_apps::manifest::Manifest;

    /// Makes an app in a new folder and checks that these files are there and nothing is left of the template's marks.
    fn made(language: Language, files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let into = tempfile::tempdir().unwrap();
        let folder = new("barn-door", language, into.path()).unwrap();
        assert_eq!(folder, into.path().join("barn-door"));
        let manifest = fs::read_to_string(folder.join("app.toml")).unwrap();
        assert_eq!(Manifest::parse(&manifest).unwrap().id.as_str(), "com.example.barn-door");
        for path in files {
            let text = fs::read_to_string(folder.join(path)).unwrap();
            assert!(!text.contains("{{"), "{path}");
        }
        assert!(!folder.join("template").exists());
        assert!(folder.join(".gitignore").is_file());
        let left: Vec<_> = fs::read_dir(into.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing else is left behind");
        (into, folder)
    }

    #[test]
    fn a_new_app_has_its_name_and_brings_sdk_and_interfaces() {
        let own = ["Cargo.toml", "app.toml", "README.md", "src/lib.rs"];
        let (_into, folder) = made(Language::Rust, &own);
        let cargo = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(cargo.contains("name = \"barn-door\""));
        for path in [
            "ironloom/sdk/rust/Cargo.toml",
            "ironloom/sdk/rust/src/lib.rs",
            "ironloom/sdk/README.md",
            "ironloom/guide/concepts.md",
            "ironloom/guide/manifest.md",
            "ironloom/wit/world.wit",
        ] {
            assert!(folder.join(path).is_file(), "{path}");
        }
        assert!(!folder.join("ironloom/guide/wit.md").exists());
        assert!(!folder.join("ironloom/sdk/rust/template").exists());
    }

    #[test]
    fn an_app_in_another_language_has_its_world_beside_the_interfaces() {
        let python = ["app.py", "tests/test_app.py", "ironloom/testing.py", "requirements.txt"];
        let javascript = ["app.js", "tests/app.test.js", "ironloom/testing.js", "package-lock.json"];
        for (language, own) in [(Language::Python, python), (Language::Javascript, javascript)] {
            let (_into, folder) = made(language, &own);
            assert!(folder.join("guide/manifest.md").is_file());
            assert!(folder.join("tests/attic.feed.ndjson").is_file());
            assert!(folder.join("tests/attic.expected.ndjson").is_file());
            let mut resolve = wit_parser::Resolve::default();
            let (package, _) = resolve.push_dir(folder.join("wit")).unwrap();
            let world = resolve.packages[package].worlds["app"];
            assert_eq!(resolve.worlds[world].exports.len(), 1, "the role of readings");
        }
    }

    #[test]
    fn a_bad_name_or_a_folder_that_is_there_is_refused() {
        let into = tempfile::tempdir().unwrap();
        for bad in ["", "Barn", "1st", "../up", "a/b", "a_b", "match", "core", "serde"] {
            assert!(new(bad, Language::Rust, into.path()).is_err(), "{bad}");
        }
        assert!(new("../up", Language::Python, into.path()).is_err());
        fs::create_dir(into.path().join("barn")).unwrap();
        let error = new("barn", Language::Javascript, into.path()).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
    }
}
