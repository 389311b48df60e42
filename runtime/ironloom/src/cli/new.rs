//! `ironloom new`: an app to start from, which builds anywhere, since it includes SDK and interfaces.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use include_dir::{Dir, DirEntry, include_dir};

use super::build::{check_app_name, within};

static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../sdk/rust");
static WIT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../wit");
/// The guide, which the template's README points to.
static GUIDE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../sdk/README.md"));
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
    /// The parent folder of the app's new folder
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub into: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &NewArgs) -> anyhow::Result<()> {
    let folder = new(&args.name, &args.into)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", folder.display())?;
    writeln!(
        std::io::stderr().lock(),
        "made an app; next:\n  cd {}\n  cargo test\n  ironloom build",
        folder.display()
    )?;
    Ok(())
}

/// Writes a new app and gives its folder.
///
/// # Errors
/// A name that is no good, a folder that is there already, and files that can't be written.
pub(crate) fn new(name: &str, into: &Path) -> anyhow::Result<PathBuf> {
    check_app_name(name)?;
    let folder = within(into, name);
    if folder.exists() {
        bail!("{} exists already; choose another name, or remove it", folder.display());
    }
    fs::create_dir_all(into).with_context(|| format!("can't create the folder {}", into.display()))?;
    // Made under another name and moved, so that there is all of it or nothing.
    let making = tempfile::Builder::new().prefix(".ironloom-new-").tempdir_in(into)?;
    let write = || -> std::io::Result<()> {
        let template =
            SDK.get_dir(TEMPLATE).ok_or_else(|| std::io::Error::other("this ironloom has no template"))?;
        write_dir(template, TEMPLATE, &[], making.path(), &|text| text.replace(NAME, name))?;
        write_dir(&SDK, "", &NOT_NEEDED, &making.path().join("ironloom/sdk/rust"), &str::to_owned)?;
        fs::write(making.path().join("ironloom/sdk/README.md"), GUIDE)?;
        write_dir(&WIT, "", &[], &making.path().join("ironloom/wit"), &str::to_owned)?;
        fs::write(making.path().join(".gitignore"), "/target\n")
    };
    write().with_context(|| format!("can't write the app in {}", into.display()))?;
    fs::set_permissions(making.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let made = making.keep();
    fs::rename(&made, &folder).with_context(|| format!("can't create the folder {}", folder.display()))?;
    Ok(folder)
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
        if without.iter().any(|name| path == Path::new(name)) {
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

    #[test]
    fn a_new_app_has_its_name_and_brings_sdk_and_interfaces() {
        let into = tempfile::tempdir().unwrap();
        let folder = new("barn-door", into.path()).unwrap();
        assert_eq!(folder, into.path().join("barn-door"));
        let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
        assert!(read("Cargo.toml").contains("name = \"barn-door\""));
        assert!(read("app.toml").contains("barn-door"));
        assert!(ironloom_apps::manifest::Manifest::parse(&read("app.toml")).is_ok());
        for path in [
            "src/lib.rs",
            "ironloom/sdk/README.md",
            "ironloom/sdk/rust/Cargo.toml",
            "ironloom/sdk/rust/src/lib.rs",
            "ironloom/wit/world.wit",
            ".gitignore",
        ] {
            assert!(folder.join(path).is_file(), "{path}");
        }
        assert!(!folder.join("ironloom/sdk/rust/template").exists());
        for file in ["Cargo.toml", "app.toml", "README.md", "src/lib.rs"] {
            assert!(!read(file).contains("{{"), "{file}");
        }
        let left: Vec<_> = fs::read_dir(into.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_bad_name_or_a_folder_that_is_there_is_refused() {
        let into = tempfile::tempdir().unwrap();
        for bad in ["", "Barn", "1st", "../up", "a/b", "a_b", "match", "core", "serde"] {
            assert!(new(bad, into.path()).is_err(), "{bad}");
        }
        fs::create_dir(into.path().join("barn")).unwrap();
        let error = new("barn", into.path()).unwrap_err().to_string();
        assert!(error.contains("exists already"), "{error}");
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 1);
    }
}
