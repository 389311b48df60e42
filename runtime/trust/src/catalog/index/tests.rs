//! The rules of an index.

use super::super::testing::{Signers, version};
use super::*;

fn refused(change: impl FnOnce(&mut Index)) -> String {
    let mut index = Signers::new().index(1);
    change(&mut index);
    let Err(CatalogError::Form { part, problem }) = index.check() else { panic!("it was taken") };
    assert_eq!(part, "index");
    problem
}

#[test]
fn each_rule_of_an_index_is_named() {
    let signers = Signers::new();
    assert_eq!(signers.index(1).check(), Ok(()));
    let stranger = crate::key::SecretKey::generate().unwrap().public();
    let says = |problem: String, part: &str| assert!(problem.contains(part), "{problem}");
    says(refused(|index| index.version = Integer::default()), "its version is 0");
    says(refused(|index| index.expires = index.issued), "expires before it was issued");
    says(refused(|index| index.apps.swap(0, 1)), "com.example.pigs is out of place");
    says(refused(|index| index.apps[1].id = index.apps[0].id.clone()), "out of place");
    says(refused(|index| index.apps[0].key = stranger), "Example Farm Software may sign it, and ed25519:");
    says(refused(|index| index.publishers.clear()), "no publisher may sign its id");
    says(refused(|index| index.publishers.push(index.publishers[0].clone())), "is given to two publishers");
    says(refused(|index| _ = index.publishers[0].prefixes.insert("Com".into())), "no app id");
    says(refused(|index| index.apps[0].versions.clear()), "it has 0 versions");
    says(refused(|index| index.apps[0].versions.swap(0, 1)), "version 0.1.0 is out of place");
    says(
        refused(|index| index.apps[0].versions.push(version("0.2.0+again"))),
        "out of place, or there twice",
    );
    says(
        refused(|index| index.apps[0].versions[0].size = Integer::new(1 << 40).unwrap()),
        "1099511627776 bytes",
    );
    says(refused(|index| index.apps[0].description = "x".repeat(1001)), "a description has 1001 bytes");
    says(refused(|index| index.apps[0].name = "x".repeat(201)), "a name has 201 bytes");
    let icon = Icon { digest: Digest::of(b""), size: Integer::new(MAX_ICON + 1).unwrap() };
    says(refused(|index| index.apps[0].icon = Some(icon)), "its icon has more than");
}

#[test]
fn the_longest_prefix_says_whose_an_app_is() {
    let mut index = Signers::new().index(1);
    index.apps.clear();
    let publisher = |name: &str, prefixes: &[&str]| Publisher {
        name: name.to_owned(),
        keys: BTreeSet::new(),
        prefixes: prefixes.iter().map(|one| (*one).to_owned()).collect(),
    };
    index.publishers = vec![
        publisher("all", &["com"]),
        publisher("pigs", &["com.example.pigs", "org"]),
        publisher("example", &["com.example"]),
    ];
    for (id, expected) in [
        ("com.example.pigs", Some("pigs")),
        ("com.example.pigs.barn", Some("pigs")),
        ("com.example.pigsty", Some("example")),
        ("com.examples.x", Some("all")),
        ("de.example", None),
    ] {
        let found = index.publisher_of(&AppId::new(id).unwrap()).map(|publisher| publisher.name.as_str());
        assert_eq!(found, expected, "{id}");
    }
}

#[test]
fn blocked_versions_and_revoked_keys_are_found() {
    let signers = Signers::new();
    let mut index = signers.index(1);
    let id = index.apps[0].id.clone();
    let (old, new) = (semver::Version::new(0, 1, 0), semver::Version::new(0, 2, 0));
    let blocked = |version: Option<&semver::Version>| Blocked {
        id: id.clone(),
        version: version.cloned(),
        reason: "it loses pigs".to_owned(),
    };
    index.blocked = vec![blocked(Some(&old))];
    assert!(index.blocked(&id, &old).is_some() && index.blocked(&id, &new).is_none());
    assert!(index.blocked(&index.apps[1].id, &old).is_none());
    index.blocked = vec![blocked(None)];
    assert!(index.blocked(&id, &new).is_some());
    assert!(index.revoked(signers.publisher.public()).is_none());
    index.revoked = vec![Revoked { key: signers.publisher.public(), reason: "lost".to_owned() }];
    assert_eq!(index.revoked(signers.publisher.public()).unwrap().reason, "lost");
}
