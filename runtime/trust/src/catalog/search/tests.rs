//! Words that are looked for.

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
