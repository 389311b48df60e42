//! The files of the kill switch: `halt` in the data folder, and one for each installation in the folder `halted`. So it
//! survives a restart and works without the API.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::Halted;
use ironloom_types::ids::{InstallationId, TenantId};

/// The file that holds back all set-points of the site.
const SITE: &str = "halt";
/// The folder of files that hold back those of the installations that they are named after.
const INSTALLATIONS: &str = "halted";
/// Files of installations that count.
const MOST: usize = 20_000;

/// The files of the kill switch in a data folder.
#[derive(Clone, Debug)]
pub(crate) struct HaltFiles(PathBuf);

/// The name of an installation's file. In the tenant `main` it is the id alone, for whoever makes it by hand.
fn name_of(id: &InstallationId) -> String {
    match id.tenant() {
        TenantId::MAIN => id.to_string(),
        tenant => format!("{tenant}.{id}"),
    }
}

fn id_of(name: &str) -> Option<InstallationId> {
    let (tenant, id) = match name.split_once('.') {
        None => (TenantId::MAIN, name),
        Some((tenant, id)) => (TenantId(tenant.parse().ok()?), id),
    };
    InstallationId::new(tenant, id).ok()
}

impl HaltFiles {
    pub(crate) fn of(data: &Path) -> Self {
        Self(data.to_owned())
    }

    /// Makes the folder of installations, so that `touch` suffices.
    pub(crate) fn prepare(&self) {
        // Where it can't be made, it can be by hand, and `read` says what is there.
        let _ = fs::create_dir(self.0.join(INSTALLATIONS));
    }

    /// Whose set-points the files hold back. Whatever can't be read holds back all: a slip must not keep the switch off.
    pub(crate) fn read(&self) -> Halted {
        let is_absent = |error: &io::Error| error.kind() == ErrorKind::NotFound;
        // Also a link to nothing.
        let site = self.0.join(SITE).symlink_metadata();
        let mut halted = Halted { site: !site.is_err_and(|error| is_absent(&error)), ..Halted::default() };
        match fs::read_dir(self.0.join(INSTALLATIONS)) {
            Err(error) => halted.site |= !is_absent(&error),
            Ok(entries) => {
                for (count, entry) in entries.enumerate() {
                    match entry {
                        Ok(entry) if count < MOST => {
                            let name = entry.file_name();
                            let id = name.to_str().and_then(id_of);
                            halted.installations.extend(id);
                        }
                        _ => {
                            halted.site = true;
                            break;
                        }
                    }
                }
            }
        }
        halted
    }

    fn path(&self, installation: Option<&InstallationId>) -> PathBuf {
        match installation {
            None => self.0.join(SITE),
            Some(id) => self.0.join(INSTALLATIONS).join(name_of(id)),
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
