//! Indexes and roots only go forward.

use proptest::prelude::*;

use super::super::testing::{Signers, day, signed};
use super::*;
use crate::envelope::EnvelopeError;
use crate::strict::MAX_INTEGER;

fn take(floor: &mut Floor, signers: &Signers, index: &Index) -> Result<Index, CatalogError> {
    floor.take_index(signed(index.to_envelope().unwrap(), [&signers.index[0]]).as_bytes())
}

#[test]
fn a_first_root_is_taken_by_keys_that_somebody_named() {
    let signers = Signers::new();
    let json = signed(signers.root(1).to_envelope().unwrap(), &signers.root[..2]);
    let first = |believed: &[PublicKey]| Floor::first(json.as_bytes(), believed);
    let (a, c) = (signers.root[0].public(), signers.root[2].public());
    assert!(first(&[a]).is_ok());
    assert_eq!(first(&[c]).unwrap_err(), CatalogError::NotTrusted { missing: c }, "it hasn't signed");
    assert!(first(&[]).is_err(), "nobody is believed");
    // One signature is too few by the root's own word, and a stranger's doesn't count.
    let json = signed(signers.root(1).to_envelope().unwrap(), [&signers.root[0], &signers.publisher]);
    let error = Floor::first(json.as_bytes(), &[a]).unwrap_err();
    assert!(
        matches!(error, CatalogError::Envelope(EnvelopeError::Threshold { found: 1, needed: 2, .. })),
        "{error}"
    );
    let stranger = signers.publisher.public();
    let json =
        signed(signers.root(1).to_envelope().unwrap(), signers.root.iter().chain([&signers.publisher]));
    let error = Floor::first(json.as_bytes(), &[stranger]).unwrap_err();
    assert_eq!(error, CatalogError::NotTrusted { missing: stranger }, "the root knows no such key");
}

#[test]
fn indexes_only_go_forward() {
    let signers = Signers::new();
    let mut floor = signers.floor();
    take(&mut floor, &signers, &signers.index(5)).unwrap();
    assert_eq!(floor.latest, day(5));
    take(&mut floor, &signers, &signers.index(5)).unwrap();
    let before = floor.clone();
    let error = take(&mut floor, &signers, &signers.index(4)).unwrap_err();
    assert_eq!(error, CatalogError::Older { part: "index", found: 4, seen: 5 });
    let mut other = signers.index(5);
    other.apps.pop();
    let error = take(&mut floor, &signers, &other).unwrap_err();
    assert_eq!(error, CatalogError::Altered { part: "index", version: 5 });
    let mut earlier = signers.index(6);
    earlier.issued = day(4);
    assert!(take(&mut floor, &signers, &earlier).unwrap_err().to_string().contains("before version 5"));
    let mut foreign = signers.index(6);
    foreign.catalog = "another".parse().unwrap();
    assert!(matches!(take(&mut floor, &signers, &foreign).unwrap_err(), CatalogError::Name { .. }));
    let by_publisher = signed(signers.index(6).to_envelope().unwrap(), [&signers.publisher]);
    assert!(floor.take_index(by_publisher.as_bytes()).is_err());
    assert_eq!(floor, before, "whatever is refused leaves nothing");
}

#[test]
fn the_second_signature_of_an_index_changes_nothing() {
    let signers = Signers::new();
    let mut floor = signers.floor();
    take(&mut floor, &signers, &signers.index(5)).unwrap();
    let both = signed(signers.index(5).to_envelope().unwrap(), &signers.index);
    assert!(floor.take_index(both.as_bytes()).is_ok());
}

#[test]
fn roots_follow_each_other_and_keys_of_both_sign() {
    let (old, new) = (Signers::new(), Signers::new());
    let mut floor = old.floor();
    let next = |version: u64, keys: &[&SecretKeys]| {
        let keys = keys.iter().flat_map(|keys| keys.iter());
        signed(new.root(version).to_envelope().unwrap(), keys)
    };
    type SecretKeys = [crate::key::SecretKey];
    let mut take = |json: String| floor.take_root(json.as_bytes());
    assert!(take(next(2, &[&new.root])).is_err(), "the old keys have a say");
    assert!(take(next(2, &[&old.root])).is_err(), "and the new ones, too");
    let error = take(next(3, &[&old.root, &new.root])).unwrap_err();
    assert_eq!(error, CatalogError::Skipped { found: 3, seen: 1 });
    let error = take(next(1, &[&old.root, &new.root])).unwrap_err();
    assert_eq!(error, CatalogError::Older { part: "root", found: 1, seen: 1 });
    take(next(2, &[&old.root, &new.root])).unwrap();
    assert!(take(next(3, &[&old.root])).is_err(), "the old keys have none any more");
    take(next(3, &[&new.root])).unwrap();
}

#[test]
fn other_keys_for_the_index_free_it_from_what_the_old_ones_used_up() {
    let (old, new) = (Signers::new(), Signers::new());
    let mut floor = old.floor();
    let mut last = old.index(7);
    (last.version, last.issued, last.expires) = (Integer::new(MAX_INTEGER).unwrap(), day(900), day(999));
    take(&mut floor, &old, &last).unwrap();
    assert!(take(&mut floor, &old, &old.index(8)).is_err());

    let mut root = old.root(2);
    root.issued = day(8);
    floor.take_root(signed(root.to_envelope().unwrap(), &old.root).as_bytes()).unwrap();
    assert!(take(&mut floor, &old, &old.index(8)).is_err(), "the same keys as before have used it up");
    (root.version, root.index) = (Integer::new(3).unwrap(), new.root(1).index);
    floor.take_root(signed(root.to_envelope().unwrap(), &old.root).as_bytes()).unwrap();
    assert_eq!((floor.index.clone(), floor.latest), (None, day(8)));
    assert!(take(&mut floor, &old, &old.index(9)).is_err());
    let error = take(&mut floor, &new, &new.index(7)).unwrap_err().to_string();
    assert!(error.contains("before this root"), "{error}");
    take(&mut floor, &new, &new.index(9)).unwrap();
}

#[test]
fn integers_that_readers_take_differently_are_refused() {
    let signers = Signers::new();
    let text = String::from_utf8(signers.index(5).to_envelope().unwrap().to_be_signed().to_vec()).unwrap();
    let text = text.replace("\"version\":5", "\"version\":9007199254740992");
    let json = signed(Envelope::new(Kind::Index, text.into_bytes()), [&signers.index[0]]);
    let error = signers.floor().take_index(json.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("9007199254740992 is above 9007199254740991"), "{error}");
}

#[derive(Clone, Debug)]
enum Step {
    Index(u64, u64),
    /// The floor goes back to an earlier one, as by a restored backup, and is raised by the newest trust file.
    Restore(usize),
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(64))]
    #[test]
    fn no_way_leads_below_what_was_seen(steps in proptest::collection::vec(
        prop_oneof![(1..9_u64, 0..2_u64).prop_map(|(version, kind)| Step::Index(version, kind)), (0..20_usize).prop_map(Step::Restore)], 1..20))
    {
        let signers = Signers::new();
        let mut floor = signers.floor();
        let mut floors = vec![floor.clone()];
        // The model: the greatest version, and which of the two of it was first.
        let mut seen: Option<(u64, u64)> = None;
        for step in steps {
            match step {
                Step::Index(version, kind) => {
                    let mut index = signers.index(version);
                    index.apps.truncate(2 - kind as usize);
                    let taken = take(&mut floor, &signers, &index).is_ok();
                    let expected = seen.is_none_or(|(newest, first)| version > newest || (version, kind) == (newest, first));
                    prop_assert_eq!(taken, expected);
                    if taken {
                        seen = Some((version, kind));
                    }
                }
                Step::Restore(at) => {
                    let newest = floor.clone();
                    floor = floors[at % floors.len()].clone();
                    floor.raise(&newest).unwrap();
                    prop_assert_eq!(&floor, &newest);
                    let mut again = newest.clone();
                    again.raise(&floors[at % floors.len()]).unwrap();
                    prop_assert_eq!(&again, &newest);
                }
            }
            floors.push(floor.clone());
        }
    }
}

/// A look of somebody: the version of the root, that of an index where there was one, and the latest time.
type Sight = (u64, Option<u64>, u64);

/// A floor as somebody has it who has seen this. Roots up to the third have one pair of keys for indexes, later ones another.
fn floor_of(signers: &[Signers; 2], (root, index, latest): Sight) -> Floor {
    let mut floor = signers[0].floor();
    floor.root.version = Integer::new(root).unwrap();
    floor.root.issued = day(root);
    floor.root.index = signers[epoch(root)].root(1).index;
    floor.index = index.map(|version| Seen {
        version: Integer::new(version).unwrap(),
        digest: Digest::of(format!("{} {version}", epoch(root)).as_bytes()),
        issued: day(version),
    });
    floor.latest = day(latest);
    floor
}

fn epoch(root: u64) -> usize {
    usize::from(root > 3)
}

proptest! {
    #![proptest_config(ironloom_mutate::cases(256))]
    #[test]
    fn what_two_have_seen_is_never_less_than_what_one_has(sights in proptest::collection::vec(
        (1..6_u64, proptest::option::of(1..9_u64), 1..20_u64), 1..12))
    {
        let signers = [Signers::new(), Signers::new()];
        let mut floor = floor_of(&signers, sights[0]);
        // The model: the greatest of each, from the first root of the newest keys on.
        let mut model = sights[0];
        for sight in sights {
            floor.raise(&floor_of(&signers, sight)).unwrap();
            let (root, index, latest) = sight;
            model = match epoch(root).cmp(&epoch(model.0)) {
                std::cmp::Ordering::Greater => sight,
                std::cmp::Ordering::Equal => (root.max(model.0), index.max(model.1), latest.max(model.2)),
                std::cmp::Ordering::Less => model,
            };
            prop_assert_eq!(&floor, &floor_of(&signers, model));
        }
    }
}
