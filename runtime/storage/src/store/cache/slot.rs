//! A slot: one line of the processor's cache, in which a short key and its value stand themselves.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::{Stretch, weigh};

/// Bytes of key and value that stand in the slot.
pub(super) const INLINE: usize = 45;
/// The length of the value where there is none.
const ABSENT: u8 = u8::MAX;

const _: () = assert!(size_of::<Slot>() == 64, "looking at an entry is one miss of the processor's cache");
const _: () = assert!(INLINE < ABSENT as usize, "each length is below that of no value");

/// A key with what is known of it, or room for one.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Slot {
    held: Held,
    /// The number of the stretch in which it was last written; 0 where it came from the store.
    written: u32,
    /// Where it is in the list of that stretch, if it is dirty.
    pub(super) place: u32,
    /// Read, or written, since the search for entries to evict last came by. What was read from the store once
    /// makes room before what was read again.
    read: AtomicBool,
}

/// `None` as a value: the key is deleted, or is known not to be in the store.
#[derive(Debug)]
enum Held {
    Nothing,
    Short { key: u8, value: u8, bytes: [u8; INLINE] },
    Long(Box<(Box<str>, Option<Bytes>)>),
}

impl Held {
    fn new(key: &str, value: Option<&[u8]>) -> Self {
        let length = value.map_or(0, <[u8]>::len);
        if key.len() + length > INLINE {
            return Self::Long(Box::new((key.into(), value.map(Bytes::copy_from_slice))));
        }
        let mut bytes = [0; INLINE];
        bytes[..key.len()].copy_from_slice(key.as_bytes());
        bytes[key.len()..][..length].copy_from_slice(value.unwrap_or_default());
        Self::Short { key: key.len() as u8, value: value.map_or(ABSENT, |value| value.len() as u8), bytes }
    }
}

impl Slot {
    /// An entry that was written in a stretch, or came from the store.
    pub(super) fn new(key: &str, value: Option<&[u8]>, written: Stretch) -> Self {
        let read = AtomicBool::new(written > Stretch(0));
        Self { held: Held::new(key, value), written: number_of(written), place: 0, read }
    }

    pub(super) fn is_in_use(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    pub(super) fn is(&self, other: &str) -> bool {
        match &self.held {
            Held::Nothing => false,
            Held::Short { key, bytes, .. } => bytes[..usize::from(*key)] == *other.as_bytes(),
            Held::Long(entry) => *entry.0 == *other,
        }
    }

    pub(super) fn key(&self) -> &str {
        match &self.held {
            Held::Nothing => "",
            // It was text when it was put there.
            Held::Short { key, bytes, .. } => {
                std::str::from_utf8(&bytes[..usize::from(*key)]).unwrap_or_default()
            }
            Held::Long(entry) => &entry.0,
        }
    }

    pub(super) fn value(&self) -> Option<&[u8]> {
        match &self.held {
            Held::Nothing | Held::Short { value: ABSENT, .. } => None,
            Held::Short { key, value, bytes } => Some(&bytes[usize::from(*key)..][..usize::from(*value)]),
            Held::Long(entry) => entry.1.as_deref(),
        }
    }

    /// The value as one that may outlive the slot; a long one is shared.
    pub(super) fn shared_value(&self) -> Option<Bytes> {
        match &self.held {
            Held::Long(entry) => entry.1.clone(),
            _ => self.value().map(Bytes::copy_from_slice),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.held {
            Held::Nothing => 0,
            Held::Short { key, .. } => weigh(usize::from(*key), self.value()),
            Held::Long(entry) => weigh(entry.0.len(), entry.1.as_deref()),
        }
    }

    /// The stretch in which it was last written.
    pub(super) fn written(&self) -> Stretch {
        Stretch(u64::from(self.written))
    }

    /// Whether it is dirty, and this is its place.
    pub(super) fn is_at(&self, stretch: Stretch, place: usize) -> bool {
        self.is_in_use() && self.written() == stretch && self.place as usize == place
    }

    /// Writes another value under the same key.
    pub(super) fn write(&mut self, key: &str, new: Option<&[u8]>, stretch: Stretch) {
        self.written = number_of(stretch);
        let length = new.map_or(0, <[u8]>::len);
        match &mut self.held {
            Held::Short { key, value, bytes } if usize::from(*key) + length <= INLINE => {
                bytes[usize::from(*key)..][..length].copy_from_slice(new.unwrap_or_default());
                *value = new.map_or(ABSENT, |new| new.len() as u8);
            }
            held => *held = Held::new(key, new),
        }
    }

    /// Notes that it was read.
    pub(super) fn touch(&self) {
        if !self.read.load(Ordering::Relaxed) {
            self.read.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was read since this was last asked.
    pub(super) fn take_read(&mut self) -> bool {
        std::mem::take(self.read.get_mut())
    }

    pub(super) fn clear(&mut self) {
        self.held = Held::Nothing;
    }
}

/// Stretches are numbered from 1 in each process.
fn number_of(stretch: Stretch) -> u32 {
    assert!(stretch.0 <= u64::from(u32::MAX), "so many stretches are some exabytes of log");
    stretch.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_of_any_length_come_back() {
        let text = "ö".repeat(INLINE);
        for length in [0, 2, 20, INLINE - 1, INLINE, INLINE + 1] {
            let key = &text[..length / 2 * 2];
            let mut slot = Slot::new(key, None, Stretch(0));
            for of_value in [0, 1, INLINE - key.len().min(INLINE), INLINE + 1, 300, 3] {
                let value = vec![7; of_value];
                for value in [Some(&value[..]), None, Some(&value[..])] {
                    slot.write(key, value, Stretch(3));
                    assert_eq!((slot.key(), slot.value(), slot.written()), (key, value, Stretch(3)));
                    assert_eq!(slot.shared_value().as_deref(), value);
                    assert_eq!(slot.bytes(), weigh(key.len(), value));
                    assert!(slot.is(key) && !slot.is("other") && slot.is_in_use());
                }
            }
            slot.clear();
            assert!(!slot.is_in_use() && !slot.is(key));
        }
    }
}
