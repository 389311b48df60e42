//! Catalogs that people added: the form that log and store share.

use serde::{Deserialize, Serialize};

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{CatalogNumber, Digest};

/// The most catalogs at a time.
pub(crate) const MOST_CATALOGS: usize = 16;

/// A catalog, with what was seen of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CatalogRecord {
    pub name: Box<str>,
    /// The number by which owners of app ids know it. It keeps it while anything of it is kept.
    pub number: CatalogNumber,
    /// The place that it is read from; `None` where it was removed, and only what was seen of it is kept.
    pub source: Option<Box<str>>,
    /// The ids that it may speak of, with those below them; all where there is none.
    pub ids: Vec<Box<str>>,
    /// All that was seen of it, as JSON: root, version and time below which it is never taken again.
    pub floor: Box<str>,
    /// The file of its index; none before the first.
    pub index: Option<Digest>,
    /// The time of the last look that found it, by the machine's clock.
    pub refreshed: Timestamp,
}
