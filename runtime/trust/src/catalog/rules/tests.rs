//! Packages held against catalogs.

use super::super::index::{Blocked, Revoked};
use super::super::testing::{Signers, day};
use super::*;
use crate::key::SecretKey;

const PLANT: CatalogNumber = CatalogNumber(1);
const OTHER: CatalogNumber = CatalogNumber(2);

struct Site {
    signers: Signers,
    floor: Floor,
    index: Index,
    rotations: Vec<Rotation>,
    ids: Vec<String>,
    number: CatalogNumber,
}

impl Site {
    fn new() -> Self {
        let signers = Signers::new();
        Self {
            floor: signers.floor(),
            index: signers.index(1),
            signers,
            rotations: Vec::new(),
            ids: Vec::new(),
            number: PLANT,
        }
    }

    fn word(&self) -> Word<'_> {
        let Self { number, floor, index, rotations, ids, .. } = self;
        Word { number: *number, floor, index, rotations, ids }
    }
}

fn id(id: &str) -> AppId {
    AppId::new(id).unwrap()
}

/// Checks version 0.1.0 of an app with the digest that the catalogs offer.
fn check(
    words: &[Word<'_>],
    app: &str,
    signers: &[PublicKey],
    now: Timestamp,
) -> Result<Vec<PublicKey>, Against> {
    let (id, version) = (id(app), semver::Version::new(0, 1, 0));
    let digest = Digest::of(b"0.1.0");
    super::check(
        words,
        Candidate { id: &id, version: &version, digest, signers, by: None, owner: None },
        Some(now),
    )
}

#[test]
fn a_catalog_speaks_of_its_own_ids_alone() {
    let mut site = Site::new();
    let key = site.signers.publisher.public();
    assert_eq!(check(&[site.word()], "com.example.pigs", &[key], day(2)), Ok(vec![key]));
    let blocked = |app: &str| Blocked { id: id(app), version: None, reason: "it loses pigs".to_owned() };
    site.index.blocked = vec![blocked("com.example.pigs"), blocked("org.other.pigs")];
    site.index.revoked = vec![Revoked { key, reason: "lost".to_owned() }];
    let error = check(&[site.word()], "com.example.pigs", &[key], day(2)).unwrap_err();
    assert_eq!(error.to_string(), "the catalog plant blocks com.example.pigs 0.1.0: it loses pigs");
    assert_eq!(check(&[site.word()], "org.other.pigs", &[key], day(2)), Ok(vec![key]));
}

#[test]
fn a_revoked_key_counts_for_nothing_and_another_beside_it_does() {
    let mut site = Site::new();
    let (key, other) = (site.signers.publisher.public(), SecretKey::generate().unwrap().public());
    site.index.revoked = vec![Revoked { key, reason: "lost".to_owned() }];
    let error = check(&[site.word()], "com.example.pigs", &[key], day(2)).unwrap_err();
    assert!(matches!(&error, Against::Revoked { key: revoked, .. } if *revoked == key), "{error}");
    assert_eq!(check(&[site.word()], "com.example.pigs", &[key, other], day(2)), Ok(vec![other]));
}

#[test]
fn a_second_signature_doesnt_stand_for_the_owners_where_a_package_runs() {
    let mut site = Site::new();
    let [other, successor] = [(); 2].map(|()| SecretKey::generate().unwrap().public());
    let owner = site.signers.publisher.public();
    let revoked = |key, reason: &str| Revoked { key, reason: reason.to_owned() };
    site.index.revoked = vec![revoked(owner, "lost")];
    let (pigs, version) = (id("com.example.pigs"), semver::Version::new(0, 1, 0));
    let runs = |site: &Site, signers: &[PublicKey]| {
        let (digest, by) = (Digest::of(b"0.1.0"), Some(PLANT));
        let candidate = Candidate { id: &pigs, version: &version, digest, signers, by, owner: Some(owner) };
        super::check(&[site.word()], candidate, None).map_err(|error| error.to_string())
    };
    let told =
        |key, reason| format!("the catalog plant has revoked the key {key}, which has signed it: {reason}");
    assert_eq!(runs(&site, &[owner, other]), Err(told(owner, "lost")));
    site.floor.root.rotations = vec![Rotation { from: owner, to: successor, apps: "com.example".to_owned() }];
    assert_eq!(runs(&site, &[owner, successor]), Ok(vec![successor]));
    // All that are revoked are named, and one of somebody else does no harm.
    site.index.revoked.push(revoked(other, "stolen"));
    let both = format!("{}; and {}", told(owner, "lost"), told(other, "stolen"));
    assert_eq!(runs(&site, &[owner, other]), Err(both));
    site.index.revoked.remove(0);
    assert_eq!(runs(&site, &[owner, other]), Ok(vec![owner]));
}

#[test]
fn whoever_stole_a_key_that_is_revoked_hands_the_id_to_nobody() {
    let (mut site, mut other) = (Site::new(), Site::new());
    let owner = site.signers.publisher.public();
    let thief = SecretKey::generate().unwrap().public();
    let rotation = Rotation { from: owner, to: thief, apps: "com.example.pigs".to_owned() };
    let pigs = id("com.example.pigs");
    let keys = |words: &[Word<'_>], by| successors(words, &pigs, owner, by);
    // The catalog of the thief speaks of the id as well, and brings what the stolen key says.
    (other.number, other.rotations) = (OTHER, vec![rotation.clone()]);
    let both = |site: &Site, by| keys(&[site.word(), other.word()], by);
    let alone = BTreeSet::from([owner]);
    let handed = BTreeSet::from([owner, thief]);
    assert_eq!(both(&site, Some(PLANT)), alone, "another catalog has no say");
    assert_eq!(both(&site, None), handed, "nobody decides, and nobody has revoked it");
    site.index.publishers[0].keys.insert(thief);
    assert_eq!(both(&site, Some(PLANT)), handed, "the one that decides gives the id to both");
    site.index.revoked = vec![Revoked { key: owner, reason: "stolen".to_owned() }];
    for by in [Some(PLANT), None] {
        assert_eq!(both(&site, by), alone, "revoked: {by:?}");
    }
    // Nor by its own catalog, but by that one's root.
    site.rotations = vec![rotation.clone()];
    assert_eq!(both(&site, Some(PLANT)), alone);
    site.floor.root.rotations = vec![rotation];
    assert_eq!(both(&site, Some(PLANT)), handed);
}

#[test]
fn one_version_has_one_contents_and_an_expired_index_installs_nothing_of_its_own() {
    let site = Site::new();
    let key = [site.signers.publisher.public()];
    let (pigs, version) = (id("com.example.pigs"), semver::Version::new(0, 1, 0));
    let digest = Digest::of(b"other");
    let other = Candidate { id: &pigs, version: &version, digest, signers: &key, by: None, owner: None };
    let error = super::check(&[site.word()], other, Some(day(2))).unwrap_err();
    assert!(matches!(error, Against::Altered { .. }), "{error}");
    assert!(check(&[site.word()], "com.example.pigs", &key, day(30)).is_ok());
    let error = check(&[site.word()], "com.example.pigs", &key, day(31)).unwrap_err();
    assert!(matches!(error, Against::Expired { .. }), "{error}");
    // It doesn't list this one, so it has nothing to expire.
    assert!(check(&[site.word()], "com.example.others", &key, day(31)).is_ok());
}

#[test]
fn a_clock_that_was_set_back_doesnt_make_an_index_young_again() {
    let mut site = Site::new();
    let clock = day(1);
    assert_eq!(time(clock, [site.floor.latest]), clock);
    assert_eq!(time(clock, [day(2), day(1)]), day(2));
    assert_eq!(time(day(41), [day(40)]), day(41));
    // Its own times count, however far ahead.
    let key = [site.signers.publisher.public()];
    site.floor.latest = day(31);
    assert!(check(&[site.word()], "com.example.pigs", &key, clock).is_err());
}

#[test]
fn a_time_far_ahead_harms_its_own_catalog_alone() {
    let clock = day(1);
    assert_eq!(time(clock, [day(2)]), day(2));
    let far = day(2).plus(1);
    assert_eq!(time(clock, [far, clock.plus(5)]), clock.plus(5));
    assert!(is_ahead(clock, far) && !is_ahead(clock, day(2)));
}

#[test]
fn keys_follow_each_other_by_their_own_word_or_the_roots() {
    let mut site = Site::new();
    let [a, b, c, d] = [(); 4].map(|()| SecretKey::generate().unwrap());
    let rotation = |from: &SecretKey, to: &SecretKey, apps: &str| Rotation {
        from: from.public(),
        to: to.public(),
        apps: apps.to_owned(),
    };
    let by = |key: &SecretKey, rotation: Rotation| {
        let mut envelope = rotation.to_envelope();
        envelope.sign(key);
        envelope.to_json()
    };
    let pigs = id("com.example.pigs");
    let said = [
        by(&a, rotation(&a, &b, "com.example.pigs")),
        // Nobody speaks for another one.
        by(&c, rotation(&b, &d, "com.example")),
        by(&a, rotation(&b, &d, "com.example")),
        "nonsense".to_owned(),
    ];
    site.index.rotations = said.to_vec();
    site.rotations = super::super::search::Searchable::new(site.index.clone()).rotations;
    assert_eq!(site.rotations.len(), 1);
    let keys = |keys: &[&SecretKey]| keys.iter().map(|key| key.public()).collect::<BTreeSet<_>>();
    assert_eq!(successors(&[site.word()], &pigs, a.public(), Some(PLANT)), keys(&[&a, &b]));
    assert_eq!(successors(&[site.word()], &id("com.example.tyres"), a.public(), Some(PLANT)), keys(&[&a]));
    site.floor.root.rotations = vec![rotation(&b, &c, "com.example"), rotation(&c, &a, "com.example")];
    assert_eq!(successors(&[site.word()], &pigs, a.public(), Some(PLANT)), keys(&[&a, &b, &c]));
    // The root of another catalog than the one that gave the id has no say.
    assert_eq!(successors(&[site.word()], &pigs, a.public(), Some(OTHER)), keys(&[&a, &b]));
    assert_eq!(successors(&[site.word()], &pigs, a.public(), None), keys(&[&a, &b]));
    // The root of a catalog that doesn't give the id to anybody has no say.
    site.index.publishers[0].prefixes = ["com.example.tyres".to_owned()].into();
    assert_eq!(successors(&[site.word()], &pigs, a.public(), Some(PLANT)), keys(&[&a]));
}

#[test]
fn another_catalog_has_no_say_in_an_id_that_was_given_and_none_beyond_what_the_admin_lets_it() {
    let (site, mut other) = (Site::new(), Site::new());
    let key = [site.signers.publisher.public()];
    // Even one that has come by the same name.
    (other.number, other.index.apps) = (OTHER, Vec::new());
    other.index.publishers[0].prefixes = ["com".to_owned()].into();
    other.index.revoked = vec![Revoked { key: key[0], reason: "ours now".to_owned() }];
    let (pigs, version) = (id("com.example.pigs"), semver::Version::new(0, 1, 0));
    let digest = Digest::of(b"0.1.0");
    let candidate = |by| Candidate { id: &pigs, version: &version, digest, signers: &key, by, owner: None };
    let both = [site.word(), other.word()];
    assert!(super::check(&both, candidate(None), Some(day(2))).is_err());
    assert!(super::check(&both, candidate(Some(PLANT)), Some(day(2))).is_ok());
    other.ids = vec!["com.hobby".to_owned()];
    assert!(super::check(&[site.word(), other.word()], candidate(None), Some(day(2))).is_ok());
}

#[test]
fn where_the_catalog_of_an_id_isnt_here_those_that_speak_of_it_still_deny() {
    // The same catalog, which was forgotten and added again, has another number.
    let (gone, mut again) = (Some(PLANT), Site::new());
    again.number = OTHER;
    let key = [again.signers.publisher.public()];
    let (pigs, version) = (id("com.example.pigs"), semver::Version::new(0, 1, 0));
    let digest = Digest::of(b"0.1.0");
    let candidate =
        |digest| Candidate { id: &pigs, version: &version, digest, signers: &key, by: gone, owner: None };
    let check = |again: &Site, digest, now| super::check(&[again.word()], candidate(digest), Some(now));
    assert_eq!(check(&again, digest, day(2)), Ok(key.to_vec()));
    let expired = check(&again, digest, day(31)).unwrap_err();
    assert!(matches!(expired, Against::Expired { .. }), "{expired}");
    let altered = check(&again, Digest::of(b"other"), day(2)).unwrap_err();
    assert!(matches!(altered, Against::Altered { .. }), "{altered}");
    again.index.revoked = vec![Revoked { key: key[0], reason: "lost".to_owned() }];
    let revoked = check(&again, digest, day(2)).unwrap_err();
    assert!(matches!(revoked, Against::Revoked { .. }), "{revoked}");
    again.index.blocked =
        vec![Blocked { id: pigs.clone(), version: None, reason: "it loses pigs".to_owned() }];
    let blocked = check(&again, digest, day(2)).unwrap_err();
    assert!(matches!(blocked, Against::Blocked { .. }), "{blocked}");
}

#[test]
fn a_root_that_has_expired_installs_nothing_either() {
    let site = Site::new();
    let key = [site.signers.publisher.public()];
    let mut index = site.index.clone();
    index.expires = day(2_000);
    let word = Word { index: &index, ..site.word() };
    assert!(check(&[word], "com.example.pigs", &key, day(999)).is_ok());
    let error = check(&[word], "com.example.pigs", &key, day(1000)).unwrap_err().to_string();
    assert!(error.contains("the root of the catalog plant has expired"), "{error}");
}
