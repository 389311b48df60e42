//! A look at a catalog: its roots one after the other, and its index, each held against what was seen before.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::source::{Opened, Source, SourceError};
use super::{INDEX, root_path};
use ironloom_trust::catalog::CatalogError;
use ironloom_trust::catalog::floor::Floor;
use ironloom_trust::catalog::index::Index;
use ironloom_trust::envelope::{Envelope, Kind};
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::Timestamp;

/// The time that the roots of one look have.
const LOOK: Duration = Duration::from_secs(600);
/// The most roots that one look takes.
const MOST_ROOTS: u64 = 1_000;

/// The parts of a catalog as one look has found them.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) floor: Floor,
    pub(crate) index: Index,
    /// The file of the index.
    pub(crate) file: Vec<u8>,
}

/// The reason why a look has found none, with the place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("{0}: {1}")]
    Catalog(String, CatalogError),
    #[error("{0}: the newest root has expired at {1}; its maker has to sign another one")]
    Expired(String, Timestamp),
    #[error("{0} takes longer than ten minutes to give its roots")]
    Slow(String),
    #[error("{0} has no {1}: it is no catalog, or one that nobody has signed yet")]
    Missing(String, &'static str),
}

impl LookError {
    /// Returns whether somebody has to name a key to believe.
    pub(crate) fn wants_key(&self) -> bool {
        matches!(self, Self::Catalog(_, CatalogError::NobodyBelieved { .. }))
    }
}

/// The floor from which on a look takes what it finds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Before<'f> {
    /// A catalog that was seen before.
    Seen(&'f Floor),
    /// One that wasn't: all of these have signed its root.
    Believed(&'f [PublicKey]),
}

/// Looks at a catalog: the roots that follow, and the index. Waits for disk or network.
///
/// # Errors
/// A place that can't be read, or has what can't be taken.
pub(crate) fn look(
    (source, opened): (&Source, &Opened),
    from: Before<'_>,
    now: Timestamp,
) -> Result<Found, LookError> {
    let wrong = |error: CatalogError| LookError::Catalog(source.to_string(), error);
    let start = Instant::now();
    let mut floor = match from {
        Before::Seen(before) => before.clone(),
        Before::Believed(keys) => first_floor((source, opened), keys, start)?,
    };
    for _ in 0..MOST_ROOTS {
        if start.elapsed() > LOOK {
            return Err(LookError::Slow(source.to_string()));
        }
        let Some(next) = opened.root(floor.root.version.get() + 1)? else { break };
        floor.take_root(&next).map_err(wrong)?;
    }
    if floor.root.expires <= now {
        return Err(LookError::Expired(source.to_string(), floor.root.expires));
    }
    let file = opened.read(INDEX, Kind::Index.max_envelope() as u64)?;
    let file = file.ok_or_else(|| LookError::Missing(source.to_string(), INDEX))?;
    let index = floor.take_index(&file).map_err(wrong)?;
    Ok(Found { floor, index, file })
}

/// The first root that those who are believed have signed: one that was changed since then is as good as the first.
fn first_floor(
    (source, opened): (&Source, &Opened),
    believed: &[PublicKey],
    start: Instant,
) -> Result<Floor, LookError> {
    let wrong = |error: CatalogError| LookError::Catalog(source.to_string(), error);
    let mut not_trusted = None;
    let mut signers = BTreeSet::new();
    for version in 1..=MOST_ROOTS {
        if start.elapsed() > LOOK {
            return Err(LookError::Slow(source.to_string()));
        }
        let Some(root) = opened.root(version)? else { break };
        if believed.is_empty() {
            let read = Envelope::read(Kind::Root, &root).map_err(|error| wrong(error.into()))?;
            signers = read.signers().collect();
            continue;
        }
        match Floor::first(&root, believed) {
            Err(error @ CatalogError::NotTrusted { .. }) => not_trusted = Some(error),
            first => return first.map_err(wrong),
        }
    }
    match not_trusted {
        Some(error) => Err(wrong(error)),
        None if signers.is_empty() => Err(LookError::Missing(source.to_string(), "root/1.json")),
        None => Err(wrong(CatalogError::NobodyBelieved { signers: signers.into_iter().collect() })),
    }
}

impl Opened {
    /// A root by its version.
    pub(crate) fn root(&self, version: u64) -> Result<Option<Vec<u8>>, SourceError> {
        self.read(&root_path(version), Kind::Root.max_envelope() as u64)
    }
}
