//! Looking through a catalog: all words, in id, name, description, categories and publisher.

use super::index::{App, Index};
use crate::rotation::Rotation;

/// A catalog made ready to be looked through.
#[derive(Debug)]
pub struct Searchable {
    pub index: Index,
    /// The words of keys that others take their place.
    pub rotations: Vec<Rotation>,
    /// Of each app in small letters, in the order of `index.apps`: its id, its name, and all the rest.
    texts: Vec<[Box<str>; 3]>,
}

impl Searchable {
    /// Makes a catalog ready.
    pub fn new(index: Index) -> Self {
        let by_prefix = index.by_prefix();
        let texts = index.apps.iter().map(|app| {
            let publisher = by_prefix.of(&app.id).map_or("", |publisher| publisher.name.as_str());
            let categories: Vec<_> = app.categories.iter().map(String::as_str).collect();
            let rest = format!("{}\n{}\n{publisher}", app.description, categories.join("\n"));
            [app.id.as_str(), &app.name, &rest].map(|text| text.to_lowercase().into_boxed_str())
        });
        let texts = texts.collect();
        // A statement that says nothing is left out: it was checked when the catalog was made.
        let rotations = index.rotations.iter().filter_map(|json| Rotation::read(json.as_bytes()).ok());
        let rotations = rotations.collect();
        Self { index, rotations, texts }
    }

    /// The apps with all these words, and of this category where there is one: those first that have the words in
    /// their name or id, and else in the order of their ids.
    pub fn find(&self, words: &str, category: Option<&str>) -> Vec<&App> {
        let words = words.to_lowercase();
        let words: Vec<&str> = words.split_whitespace().collect();
        let is_wanted = |app: &App| category.is_none_or(|category| app.categories.contains(category));
        let all = self.index.apps.iter().zip(&self.texts).filter(|(app, _)| is_wanted(app));
        let mut found: Vec<(usize, &App)> =
            all.filter_map(|(app, texts)| Some((rank(texts, &words)?, app))).collect();
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, app)| app).collect()
    }
}

/// The number of words that are in neither id nor name; `None` where one is nowhere.
fn rank([id, name, rest]: &[Box<str>; 3], words: &[&str]) -> Option<usize> {
    let mut elsewhere = 0;
    for word in words {
        if id.contains(word) || name.contains(word) {
            continue;
        }
        if !rest.contains(word) {
            return None;
        }
        elsewhere += 1;
    }
    Some(elsewhere)
}

#[cfg(test)]
mod tests;
