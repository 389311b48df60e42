//! Where a configuration comes from: a file, which is read again when somebody asks for it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Config;
use ironloom_apps::problem::Problems;
use ironloom_storage::small_files::{self, ReadError};

/// The longest file in bytes, and the longest with the options of one connector: it may name many columns.
pub(crate) const MAX_FILE: u64 = 16 << 20;

/// The file of a configuration, and what the command line says instead of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// Without one, everything has its default.
    pub file: Option<PathBuf>,
    /// The address of the API.
    pub listen: Option<SocketAddr>,
    /// Packages that nobody has signed may be installed, whatever the file says.
    pub allow_unsigned: bool,
}

/// The reason why a configuration can't be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    #[error(transparent)]
    Unreadable(#[from] ReadError),
    /// All that is wrong with it.
    #[error("{}", problems.of_file(path))]
    Wrong { path: PathBuf, problems: Problems },
}

impl Source {
    /// Reads and checks it. File names in it are relative to its folder.
    pub(crate) fn read(&self) -> Result<Config, SourceError> {
        let text = match &self.file {
            Some(path) => small_files::read_text(path, MAX_FILE)?,
            None => String::new(),
        };
        let name = self.file.as_deref().unwrap_or(Path::new("the configuration"));
        let mut config =
            Config::read(&text).map_err(|problems| SourceError::Wrong { path: name.to_owned(), problems })?;
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        config.policy.unsigned |= self.allow_unsigned;
        for connector in config.connectors.values_mut() {
            connector.resolve(self.folder());
        }
        let tls = config.server.tls.iter_mut().flat_map(|files| [&mut files.certificate, &mut files.key]);
        for path in tls {
            *path = self.folder().join(&path);
        }
        for path in config.catalogs.ca.iter_mut().chain(&mut config.catalogs.logins) {
            *path = self.folder().join(&path);
        }
        Ok(config)
    }

    /// The folder that file names are relative to.
    pub(crate) fn folder(&self) -> &Path {
        self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cant_be_read_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source { file: Some(folder.path().join("nope.toml")), ..Source::default() };
        let told = format!("{:#}", anyhow::Error::from(source.read().unwrap_err()));
        assert!(told.contains("nope.toml can't be read"), "{told}");
        assert_eq!(told.matches("os error 2").count(), 1, "{told}");
    }
}
