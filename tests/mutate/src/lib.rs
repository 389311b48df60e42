//! Good inputs with a few bytes changed, for property tests of whatever reads bytes. The fuzz targets in `fuzz/` call
//! the same bodies for as long as one likes; these tests do so in every run. Besides, what tests of all crates share.

use std::io::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The configuration of a property that is looked at so often; `PROPTEST_CASES`, which is 256 unless it is set, makes it
/// more or less by the same factor as every other.
pub fn cases(usual: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    let cases = u64::from(usual) * u64::from(default.cases) / 256;
    ProptestConfig { cases: u32::try_from(cases).unwrap_or(u32::MAX).max(1), ..default }
}

/// Says that this machine can't test something, and why: past the harness, which keeps what a test prints that passes.
/// `cargo xtask test` lists it at the end.
pub fn not_tested(what: &str, why: &str) {
    // Where nobody reads it, nobody misses it.
    let _ = writeln!(std::io::stderr(), "NOT TESTED: {what} ({why})");
}

/// The names of what must be there, with commas; `all` stands for everything that [`missing`] is called with.
const MUST: &str = "IRONLOOM_TEST_MUST";

/// As [`not_tested`], for the lack of something that has a name: a failure where it must be there.
///
/// # Panics
/// If `IRONLOOM_TEST_MUST` has the name.
pub fn missing(name: &str, what: &str, why: &str) {
    let must = std::env::var(MUST).unwrap_or_default();
    assert!(!is_wanted(&must, name), "{MUST} names {name}, without which this isn't tested: {what} ({why})");
    not_tested(what, why);
}

fn is_wanted(must: &str, name: &str) -> bool {
    must.split(',').map(str::trim).any(|one| one == name || one == "all")
}

/// One change of an input.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    /// Removes some bytes from a place on.
    Remove(Index, usize),
    /// Repeats some bytes of a place at another.
    Copy(Index, usize, Index),
    Cut(Index),
}

/// Returns one of the seeds with up to eight changes, or, now and then, bytes that have nothing to do with them.
pub fn mutated(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let change = prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        (any::<Index>(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), 1..64_usize).prop_map(|(at, count)| Change::Remove(at, count)),
        (any::<Index>(), 1..64_usize, any::<Index>())
            .prop_map(|(from, count, to)| Change::Copy(from, count, to)),
        any::<Index>().prop_map(Change::Cut),
    ];
    let of_seed = (select(seeds), vec(change, 0..9)).prop_map(|(mut bytes, changes)| {
        changes.into_iter().for_each(|change| change.apply(&mut bytes));
        bytes
    });
    prop_oneof![9 => of_seed, 1 => vec(any::<u8>(), 0..256)]
}

impl Change {
    fn apply(self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        let place = |index: Index| index.index(length + 1);
        match self {
            Self::Set(at, byte) if length > 0 => bytes[at.index(length)] = byte,
            Self::Flip(at, bit) if length > 0 => bytes[at.index(length)] ^= bit,
            Self::Set(..) | Self::Flip(..) => {}
            Self::Insert(at, new) => drop(bytes.splice(place(at)..place(at), new)),
            Self::Remove(at, count) => drop(bytes.drain(place(at)..length.min(place(at) + count))),
            Self::Copy(from, count, to) => {
                let copied = bytes[place(from)..length.min(place(from) + count)].to_vec();
                bytes.splice(place(to)..place(to), copied);
            }
            Self::Cut(at) => bytes.truncate(place(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_be_there_is_named_or_is_everything() {
        for (must, expected) in [
            ("", false),
            ("mosquitto", true),
            ("amqtt, mosquitto", true),
            ("all", true),
            ("amqtt", false),
            ("mosquitto2", false),
        ] {
            assert_eq!(is_wanted(must, "mosquitto"), expected, "{must}");
        }
    }
}
