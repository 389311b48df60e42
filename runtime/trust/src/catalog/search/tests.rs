//! Words that are looked for.

use super::super::index::{Blocked, Revoked};
use super::super::testing::Signers;
use super::*;

#[test]
fn all_words_are_found_in_any_letters_and_names_come_first() {
    let signers = Signers::new();
    let mut index = signers.index(1);
    index.apps =
        ["com.example.barn", "com.example.pigs", "com.example.tyres"].map(|id| signers.app(id)).into();
    index.apps[0].description = "For Pigs and poultry".to_owned();
    index.apps[2].name = "Tyres by the kilometre".to_owned();
    index.apps[2].categories = ["fleet".to_owned()].into();
    let catalog = Searchable::new(index);
    let find = |words: &str, category: Option<&str>| -> Vec<&str> {
        catalog.find(words, category).into_iter().map(|app| app.id.as_str()).collect()
    };
    assert_eq!(find("PIGS", None), ["com.example.pigs", "com.example.barn"]);
    assert_eq!(find("pigs poultry", None), ["com.example.barn"]);
    assert_eq!(find("", None).len(), 3);
    assert_eq!(find("", Some("fleet")), ["com.example.tyres"]);
    assert_eq!(find("kilometre farm software", Some("fleet")), ["com.example.tyres"]);
    assert_eq!(find("farm", Some("farm")).len(), 2);
    assert!(find("tractor", None).is_empty());
}

#[test]
fn what_is_said_of_an_app_is_found_as_the_index_says_it() {
    let signers = Signers::new();
    let mut index = signers.index(1);
    let id = index.apps[0].id.clone();
    let blocked = |version: Option<&str>, reason: &str| Blocked {
        id: id.clone(),
        version: version.map(|version| version.parse().unwrap()),
        reason: reason.to_owned(),
    };
    index.blocked = vec![blocked(Some("0.1.0"), "one"), blocked(None, "all"), blocked(Some("0.2.0"), "late")];
    let key = signers.publisher.public();
    index.revoked =
        vec![Revoked { key, reason: "first".to_owned() }, Revoked { key, reason: "second".to_owned() }];
    let catalog = Searchable::new(index);
    for version in ["0.1.0", "0.2.0", "9.0.0"].map(|version| version.parse().unwrap()) {
        assert_eq!(catalog.blocked(&id, &version), catalog.index.blocked(&id, &version));
    }
    assert_eq!(catalog.revoked(key), catalog.index.revoked(key));
    assert_eq!(catalog.publisher_of(&id), catalog.index.publisher_of(&id));
    let other = AppId::new("com.example.other").unwrap();
    assert_eq!(catalog.blocked(&other, &"0.1.0".parse().unwrap()), None);
    assert_eq!(catalog.publisher_of(&other), None);
}
