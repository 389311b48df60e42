//! The digest of an invocation's effects, by which two runs are compared.
//!
//! SHA-256 over these sections, in this order, all numbers little-endian, a text or blob as its
//! length u32 and its bytes:
//! 1. `ironloom/effects/3`
//! 2. count u32 of state changes, each: key, then 0, or 1 and the value; in the order of the keys' bytes
//! 3. count u32 of distinct points of derived readings, in the order in which they first appear: path;
//!    then count u32 of derived readings, each: index u32 of its point, at u64, quality u8, type u8,
//!    and the value: nothing, a byte, an integer or a real's bits as u64, text or blob
//! 4. count u32 of one-shot timers, each: name, then 0, or 1 and due u64; in the order of the names' bytes
//! 5. count u32 of alarm changes, each: code, entity, then 0 where it is cleared, or 1 and the message; then 0, or 1 and
//!    since when as u64; in the order of the changes
//! 6. count u32 of refusals, each: frame u32, reading u32, reason; in the order given
//! 7. count u32 of set-points, each: list u32, output, entity, point, then the value that was asked for and the one that is
//!    sent, each as type u8 and the bits of a number or boolean as u64, and the time to live u64; in the order given

use hashbrown::HashMap;
use sha2::{Digest as _, Sha256};

use crate::fold::points::Names;
use ironloom_types::clock::Timestamp;
use ironloom_types::effects::{AlarmAct, AlarmChange, Effects};
use ironloom_types::ids::{Digest, PointNumber, PointPath};
use ironloom_types::readings::{Tag, Value, ValueRef};

/// The points of derived readings, in the order in which they first appear.
pub(crate) struct Points {
    in_order: Vec<PointNumber>,
    /// The place of each reading's point among them.
    rows: Vec<u32>,
}

impl Points {
    /// Those of these effects.
    pub(crate) fn of(effects: &Effects) -> Self {
        let mut indexes: HashMap<PointNumber, u32> = HashMap::new();
        let mut in_order = Vec::new();
        let rows = effects.derived.points.iter().map(|&point| {
            *indexes.entry(point).or_insert_with(|| {
                in_order.push(point);
                in_order.len() as u32 - 1
            })
        });
        let rows = rows.collect();
        Self { in_order, rows }
    }

    /// Their paths. `names` is held no longer than this takes.
    pub(crate) fn paths(&self, effects: &Effects, names: &Names) -> Vec<Option<PointPath>> {
        let path = |&point: &PointNumber| match point.pending_index() {
            Some(index) => effects.new_points.get(index).map(|new| new.path.clone()),
            None => names.point(point).map(|known| known.path.clone()),
        };
        self.in_order.iter().map(path).collect()
    }

    /// Their paths where no point has a number yet.
    pub(crate) fn new_paths(&self, effects: &Effects) -> Vec<Option<PointPath>> {
        let path = |point: &PointNumber| {
            let new = point.pending_index().and_then(|index| effects.new_points.get(index));
            new.map(|new| new.path.clone())
        };
        self.in_order.iter().map(path).collect()
    }
}

/// The digest of these effects, whose derived readings have these points and paths.
pub(crate) fn of(effects: &Effects, points: &Points, paths: &[Option<PointPath>]) -> Digest {
    let mut out = Out(Sha256::new(), Vec::with_capacity(4096));
    out.0.update(b"ironloom/effects/3");
    out.count(effects.state.len());
    for (key, value) in effects.state.iter() {
        out.bytes(key.as_bytes());
        out.option(value);
    }
    derived(effects, points, paths, &mut out);
    out.count(effects.timers.len());
    for (name, due) in &effects.timers {
        out.bytes(name.as_bytes());
        out.time(*due);
    }
    out.count(effects.alarms.len());
    for AlarmChange { key: (code, entity), act } in &effects.alarms {
        out.bytes(code.as_str().as_bytes());
        out.bytes(entity.as_bytes());
        let (message, since) = match act {
            AlarmAct::Raise { message, since } => (Some(message.as_bytes()), since),
            AlarmAct::Clear { since } => (None, since),
        };
        out.option(message);
        out.time(*since);
    }
    out.count(effects.refused.len());
    for refused in &effects.refused {
        out.raw(&refused.frame.to_le_bytes());
        out.raw(&refused.reading.to_le_bytes());
        out.bytes(refused.reason.as_bytes());
    }
    out.count(effects.intents.len());
    for intent in &effects.intents {
        out.raw(&intent.list.to_le_bytes());
        out.bytes(intent.output.as_str().as_bytes());
        out.bytes(intent.entity.as_bytes());
        out.bytes(intent.point.as_str().as_bytes());
        out.number(&intent.asked);
        out.number(&intent.value);
        out.raw(&intent.time_to_live.to_le_bytes());
    }
    out.finish()
}

fn derived(effects: &Effects, points: &Points, paths: &[Option<PointPath>], out: &mut Out) {
    let columns = &effects.derived;
    out.count(paths.len());
    for path in paths {
        out.bytes(path.as_ref().map_or("", |path| path.as_str()).as_bytes());
    }
    out.count(points.rows.len());
    for (row, index) in points.rows.iter().enumerate() {
        let (value, tag) = (columns.value(row), columns.tag(row));
        out.raw(&index.to_le_bytes());
        out.raw(&columns.at[row].0.to_le_bytes());
        out.raw(&[columns.quality(row) as u8, tag as u8]);
        match value {
            ValueRef::Missing => {}
            ValueRef::Boolean(value) => out.raw(&[u8::from(value)]),
            ValueRef::Integer(_) | ValueRef::Real(_) => {
                debug_assert!(matches!(tag, Tag::Integer | Tag::Real));
                out.raw(&columns.words[row].to_le_bytes());
            }
            ValueRef::Text(text) => out.bytes(text.as_bytes()),
            ValueRef::Blob(bytes) => out.bytes(bytes),
        }
    }
}

/// Gathers small pieces, since hashing them one by one costs several times as much.
struct Out(Sha256, Vec<u8>);

impl Out {
    fn raw(&mut self, bytes: &[u8]) {
        self.1.extend_from_slice(bytes);
        if self.1.len() >= 4096 {
            self.0.update(&self.1);
            self.1.clear();
        }
    }

    fn count(&mut self, count: usize) {
        self.raw(&(count as u32).to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    fn option(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.raw(&[0]),
            Some(bytes) => {
                self.raw(&[1]);
                self.bytes(bytes);
            }
        }
    }

    fn time(&mut self, at: Option<Timestamp>) {
        match at {
            None => self.raw(&[0]),
            Some(at) => {
                self.raw(&[1]);
                self.raw(&at.0.to_le_bytes());
            }
        }
    }

    /// A number or boolean: set-points are nothing else.
    fn number(&mut self, value: &Value) {
        let bits = match value {
            Value::Boolean(value) => u64::from(*value),
            Value::Integer(value) => value.cast_unsigned(),
            Value::Real(value) => value.to_bits(),
            Value::Missing | Value::Text(_) | Value::Blob(_) => 0,
        };
        self.raw(&[value.as_ref().tag() as u8]);
        self.raw(&bits.to_le_bytes());
    }

    fn finish(mut self) -> Digest {
        self.0.update(&self.1);
        Digest(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(effects: &Effects) -> Digest {
        of(effects, &Points::of(effects), &[])
    }

    #[test]
    fn no_effects_have_the_digest_of_the_header_and_seven_zero_counts() {
        let mut bytes = b"ironloom/effects/3".to_vec();
        bytes.extend_from_slice(&[0; 7 * 4]);
        assert_eq!(digest(&Effects::default()), Digest::of(&bytes));
    }

    #[test]
    fn every_part_of_the_effects_counts() {
        let none = digest(&Effects::default());
        let mut state = Effects::default();
        state.state.push("a", None);
        let mut set = Effects::default();
        set.state.push("a", Some(b""));
        let mut timers = Effects::default();
        timers.timers.insert("a".into(), None);
        let all = [none, digest(&state), digest(&set), digest(&timers)];
        for (n, one) in all.iter().enumerate() {
            assert!(all[n + 1..].iter().all(|other| other != one), "{n}");
        }
    }
}
