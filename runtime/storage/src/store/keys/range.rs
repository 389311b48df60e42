//! Ranges of keys.

use std::ops::Bound;

use bytes::Bytes;

use super::{HEAD, Key, KeyKind, PARTS, head};
use ironloom_types::ids::{Generation, TenantId};

/// Keys from `start` on, up to but not including `end`, in their order or from the last back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    start: Bytes,
    end: Bytes,
    reversed: bool,
}

impl KeyRange {
    /// Every key there is.
    pub fn everything() -> Self {
        Self { start: Bytes::new(), end: Bytes::from_static(&PARTS), reversed: false }
    }

    /// The same keys the other way round: the greatest comes first.
    pub fn reversed(self) -> Self {
        Self { reversed: !self.reversed, ..self }
    }

    /// True: the greatest key comes first.
    pub fn is_reversed(&self) -> bool {
        self.reversed
    }

    /// This key, and those that begin with it.
    pub fn beginning_with(key: &Key) -> Self {
        Self::of_prefix(key.as_bytes())
    }

    /// Says whether it holds this key.
    pub fn contains(&self, key: &Key) -> bool {
        self.start <= key.0 && key.0 < self.end
    }

    /// Says whether nothing in it can come after this key.
    pub fn is_empty_after(&self, after: Option<&Key>) -> bool {
        let is_past = |after: &Key| if self.reversed { after.0 <= self.start } else { after.0 >= self.end };
        self.start >= self.end || after.is_some_and(is_past)
    }

    /// The bytes from which and before which its keys stand, for those that come after `after` only.
    pub fn bounds<'a>(&'a self, after: Option<&'a Key>) -> (Bound<&'a [u8]>, &'a [u8]) {
        match after {
            Some(after) if self.reversed => (Bound::Included(&self.start), after.as_bytes().min(&self.end)),
            Some(after) if after.0 >= self.start => (Bound::Excluded(after.as_bytes()), &self.end),
            _ => (Bound::Included(&self.start), &self.end),
        }
    }

    /// Items that stand in the order of their keys, in the order of this range.
    pub fn in_order<T>(&self, items: impl DoubleEndedIterator<Item = T>) -> impl Iterator<Item = T> {
        let (forward, back) = if self.reversed { (None, Some(items.rev())) } else { (Some(items), None) };
        forward.into_iter().flatten().chain(back.into_iter().flatten())
    }

    /// All keys of a kind, of all tenants.
    pub fn all(kind: KeyKind) -> Self {
        Self::of_prefix(&[kind as u8])
    }

    /// All keys of a kind that are a tenant's, where the kind says whose they are.
    pub fn tenant(kind: KeyKind, tenant: TenantId) -> Self {
        Self::of_prefix(&head(kind, tenant, Generation(0))[..HEAD - 8])
    }

    /// All keys of a kind in one generation.
    pub fn generation(kind: KeyKind, generation: Generation) -> Self {
        Self::of_prefix(&head(kind, generation.tenant(), generation))
    }

    /// All keys of a kind of the node whose names begin with this number.
    pub fn numbered(kind: KeyKind, number: u64) -> Self {
        let mut bytes = head(kind, TenantId::NOBODY, Generation(0));
        bytes.extend_from_slice(&number.to_be_bytes());
        Self::of_prefix(&bytes)
    }

    /// The state of a generation whose keys begin with `prefix`.
    pub fn state(generation: Generation, prefix: &str) -> Self {
        let mut bytes = head(KeyKind::State, generation.tenant(), generation);
        bytes.extend_from_slice(prefix.as_bytes());
        Self::of_prefix(&bytes)
    }

    /// All keys that begin with these bytes.
    pub(super) fn of_prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while end.last() == Some(&0xff) {
            end.pop();
        }
        match end.last_mut() {
            Some(last) => *last += 1,
            None => end = PARTS.to_vec(),
        }
        Self { start: Bytes::copy_from_slice(prefix), end: end.into(), reversed: false }
    }
}
