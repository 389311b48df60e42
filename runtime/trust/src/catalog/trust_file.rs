//! A file of all that was seen of catalogs: whoever restores a backup takes it back, so that nobody gets what was seen
//! later for new.

use serde::{Deserialize, Serialize};

use super::floor::Floor;
use super::{CatalogError, form};
use crate::strict;
use ironloom_types::clock::Timestamp;

/// The most catalogs of which it is kept what was seen, also of those that were removed.
pub const MAX_SEEN: usize = 64;
/// The format of the file.
const FORMAT: &str = "ironloom-catalog-trust-1";
const PART: &str = "trust file";

/// The contents of a trust file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrustFile {
    format: String,
    /// The time at which it was written, by the clock of whoever wrote it.
    pub written: Timestamp,
    /// One for each catalog.
    #[serde(deserialize_with = "strict::objects")]
    pub catalogs: Vec<Floor>,
}

impl TrustFile {
    /// A file with these.
    pub fn new(written: Timestamp, catalogs: Vec<Floor>) -> Self {
        Self { format: FORMAT.to_owned(), written, catalogs }
    }

    /// Checks what can be wrong in a file that has the form of one.
    ///
    /// # Errors
    /// Another format, too many catalogs, a catalog twice, or a root that nobody could have signed.
    pub fn check(&self) -> Result<(), CatalogError> {
        if self.format != FORMAT {
            let found: String = self.format.chars().take(100).collect();
            return Err(form(PART, format!("it has the format {found:?}, and {FORMAT:?} is read")));
        }
        if self.catalogs.len() > MAX_SEEN {
            return Err(form(PART, format!("it has more than {MAX_SEEN} catalogs")));
        }
        let mut names: Vec<_> = self.catalogs.iter().map(|floor| floor.root.catalog.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
            return Err(form(PART, format!("it has the catalog {} twice", twice[0])));
        }
        self.catalogs.iter().try_for_each(|floor| floor.root.check())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Signers, day};
    use super::*;

    #[test]
    fn a_file_comes_back_and_a_wrong_one_is_refused() {
        let floor = Signers::new().floor();
        let file = TrustFile::new(day(3), vec![floor.clone()]);
        file.check().unwrap();
        let json = serde_json::to_string(&file).unwrap();
        assert_eq!(serde_json::from_str::<TrustFile>(&json).unwrap(), file);
        let twice = TrustFile::new(day(3), vec![floor.clone(), floor.clone()]);
        assert!(twice.check().unwrap_err().to_string().contains("the catalog plant twice"));
        let other: TrustFile = serde_json::from_str(&json.replace("trust-1", "trust-2")).unwrap();
        assert!(other.check().unwrap_err().to_string().contains("\"ironloom-catalog-trust-2\""));
        let mut nobody = floor;
        nobody.root.root.keys.clear();
        assert!(TrustFile::new(day(3), vec![nobody]).check().is_err());
    }
}
