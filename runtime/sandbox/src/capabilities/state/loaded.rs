//! Values that the cache didn't know, while a call copies them.

use bytes::Bytes;
use hashbrown::HashMap;

/// Values that were loaded. Each is kept only until all values of its key are copied, so that what is asked for again and
/// again doesn't fill the host's memory.
#[derive(Default)]
pub(super) struct Loaded<'k> {
    values: HashMap<&'k str, Option<Bytes>>,
    /// How often each key is still asked for, once something was loaded.
    times: HashMap<&'k str, usize>,
}

impl<'k> Loaded<'k> {
    /// Whether nothing was loaded so far.
    pub(super) fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    pub(super) fn get(&self, key: &str) -> Option<Option<&[u8]>> {
        Some(self.values.get(key)?.as_deref())
    }

    /// Adds what was found; `rest` are the keys whose values aren't copied yet.
    pub(super) fn add(
        &mut self,
        rest: impl Iterator<Item = &'k str>,
        keys: Vec<&'k str>,
        found: Vec<Option<Bytes>>,
    ) {
        if self.is_empty() {
            rest.for_each(|key| *self.times.entry(key).or_default() += 1);
        }
        self.values.extend(keys.into_iter().zip(found));
    }

    /// The values of these keys were copied.
    pub(super) fn forget(&mut self, copied: impl Iterator<Item = &'k str>) {
        if self.is_empty() {
            return;
        }
        for key in copied {
            let left = self.times.entry(key).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.values.remove(key);
            }
        }
    }
}
