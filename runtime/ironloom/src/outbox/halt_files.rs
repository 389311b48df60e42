//! The files of the kill switch: `halt` in the data folder, and one for each installation in the folder `halted`. So it
//! survives a restart and works without the API.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Halted;
use ironloom_types::ids::InstallationId;

/// The file that holds back all set-points of the site.
const SITE: &str = "halt";
/// The folder of files that hold back those of the installations that they are named after.
const INSTALLATIONS: &str = "halted";
/// Files of installations that count.
const MOST: usize = 20_000;

/// The files of the kill switch in a data folder.
#[derive(Clone, Debug)]
pub(crate) struct HaltFiles(PathBuf);

impl HaltFiles {
    pub(crate) fn of(data: &Path) -> Self {
        Self(data.to_owned())
    }

    /// Whose set-points the files hold back.
    pub(crate) fn read(&self) -> io::Result<Halted> {
        let site = self.0.join(SITE).try_exists()?;
        let mut installations = BTreeSet::new();
        match fs::read_dir(self.0.join(INSTALLATIONS)) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
            Ok(entries) => {
                for entry in entries.take(MOST) {
                    let name = entry?.file_name();
                    installations.extend(name.to_str().and_then(|name| InstallationId::new(name).ok()));
                }
            }
        }
        Ok(Halted { site, installations })
    }

    fn path(&self, installation: Option<&InstallationId>) -> PathBuf {
        match installation {
            None => self.0.join(SITE),
            Some(id) => self.0.join(INSTALLATIONS).join(id.as_str()),
        }
    }

    /// Turns the switch on, durably.
    pub(crate) fn halt(&self, installation: Option<&InstallationId>) -> io::Result<()> {
        let path = self.path(installation);
        if let Some(folder) = path.parent()
            && installation.is_some()
        {
            fs::create_dir_all(folder)?;
        }
        fs::File::create(&path)?.sync_all()?;
        self.sync(&path)
    }

    /// Turns the switch off, durably.
    pub(crate) fn release(&self, installation: Option<&InstallationId>) -> io::Result<()> {
        let path = self.path(installation);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.sync(&path)
    }

    /// Makes names durable.
    fn sync(&self, path: &Path) -> io::Result<()> {
        for folder in [path.parent(), Some(&*self.0)].into_iter().flatten() {
            match fs::File::open(folder) {
                Ok(folder) => folder.sync_all()?,
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
