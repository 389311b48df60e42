//! Where a configuration comes from: a file, which is read again when somebody asks for it.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::Config;
use ironloom_apps::problem::Problems;

/// The file of a configuration, and what the command line says instead of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// Without one, everything has its default.
    pub file: Option<PathBuf>,
    /// The address of the API.
    pub listen: Option<SocketAddr>,
}

/// The reason why a configuration can't be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SourceError {
    // The text has the error already: as its source, it would stand there twice.
    #[error("{path} can't be read: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    /// All that is wrong with it.
    #[error("{}", problems.of_file(path))]
    Wrong { path: PathBuf, problems: Problems },
}

impl Source {
    /// Reads and checks it. File names in it are relative to its folder.
    pub(crate) fn read(&self) -> Result<Config, SourceError> {
        let text = match &self.file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| SourceError::Unreadable { path: path.clone(), error })?,
            None => String::new(),
        };
        let name = self.file.as_deref().unwrap_or(Path::new("the configuration"));
        let mut config =
            Config::read(&text).map_err(|problems| SourceError::Wrong { path: name.to_owned(), problems })?;
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        let folder = self.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        for connector in config.connectors.values_mut() {
            connector.resolve(folder);
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cant_be_read_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let source = Source { file: Some(folder.path().join("nope.toml")), listen: None };
        let told = format!("{:#}", anyhow::Error::from(source.read().unwrap_err()));
        assert!(told.contains("nope.toml can't be read"), "{told}");
        assert_eq!(told.matches("os error 2").count(), 1, "{told}");
    }
}
