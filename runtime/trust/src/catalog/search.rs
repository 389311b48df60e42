//! Looking through a catalog: all words, in id, name, description, categories and publisher.

use std::collections::BTreeMap;

use memchr::memmem::Finder;

use super::index::{App, Blocked, Index, Publisher, Revoked};
use crate::key::PublicKey;
use crate::rotation::Rotation;
use ironloom_types::ids::AppId;

/// A catalog made ready to be looked through.
#[derive(Debug)]
pub struct Searchable {
    pub index: Index,
    /// The words of keys that others take their place.
    pub rotations: Vec<Rotation>,
    /// Of each app, in the order of `index.apps`.
    entries: Vec<Entry>,
    /// The places in `index.revoked` and `index.blocked`: either may have thousands.
    revoked: BTreeMap<PublicKey, usize>,
    blocked: BTreeMap<AppId, Vec<usize>>,
}

/// The text of an app that is looked through.
#[derive(Debug)]
struct Entry {
    /// In small letters: its id and its name, then all the rest.
    text: Box<str>,
    /// The end of the name.
    named: usize,
    /// The place of its publisher in `index.publishers`.
    publisher: Option<usize>,
}

impl Searchable {
    /// Makes a catalog ready.
    pub fn new(index: Index) -> Self {
        let by_prefix = index.by_prefix();
        let place =
            |publisher: &Publisher| index.publishers.iter().position(|one| std::ptr::eq(one, publisher));
        // Found once for each publisher, of which there may be thousands.
        let mut places: BTreeMap<*const Publisher, Option<usize>> = BTreeMap::new();
        let mut entries = Vec::with_capacity(index.apps.len());
        for app in &index.apps {
            let publisher = by_prefix.of(&app.id);
            let name = publisher.map_or("", |publisher| publisher.name.as_str());
            let named = format!("{}\n{}", app.id, app.name).to_lowercase();
            let categories: Vec<_> = app.categories.iter().map(String::as_str).collect();
            let rest = format!("\n{}\n{}\n{name}", app.description, categories.join("\n")).to_lowercase();
            let publisher = publisher.and_then(|one| *places.entry(one).or_insert_with(|| place(one)));
            entries.push(Entry { text: format!("{named}{rest}").into(), named: named.len(), publisher });
        }
        // A statement that says nothing is left out: it was checked when the catalog was made.
        let rotations = index.rotations.iter().filter_map(|json| Rotation::read(json.as_bytes()).ok());
        let rotations = rotations.collect();
        let revoked = index.revoked.iter().enumerate().map(|(at, one)| (one.key, at)).rev().collect();
        let mut blocked: BTreeMap<AppId, Vec<usize>> = BTreeMap::new();
        for (at, one) in index.blocked.iter().enumerate() {
            blocked.entry(one.id.clone()).or_default().push(at);
        }
        Self { index, rotations, entries, revoked, blocked }
    }

    /// The apps with all these words, and of this category where there is one: those first that have the words in
    /// their name or id, and else in the order of their ids.
    pub fn find(&self, words: &str, category: Option<&str>) -> Vec<&App> {
        let words = words.to_lowercase();
        let words: Vec<Finder<'_>> = words.split_whitespace().map(Finder::new).collect();
        let is_wanted = |app: &App| category.is_none_or(|category| app.categories.contains(category));
        let all = self.index.apps.iter().zip(&self.entries).filter(|(app, _)| is_wanted(app));
        let mut found: Vec<(usize, &App)> =
            all.filter_map(|(app, entry)| Some((entry.rank(&words)?, app))).collect();
        found.sort_by_key(|(rank, _)| *rank);
        found.into_iter().map(|(_, app)| app).collect()
    }

    /// The publisher that may sign an app of this catalog.
    pub fn publisher_of(&self, id: &AppId) -> Option<&Publisher> {
        let at = self.index.apps.binary_search_by(|app| app.id.cmp(id)).ok()?;
        self.index.publishers.get(self.entries.get(at)?.publisher?)
    }

    /// Finds what [`Index::revoked`] says of a key.
    pub fn revoked(&self, key: PublicKey) -> Option<&Revoked> {
        self.index.revoked.get(*self.revoked.get(&key)?)
    }

    /// Finds what [`Index::blocked`] says of a version.
    pub fn blocked(&self, id: &AppId, version: &semver::Version) -> Option<&Blocked> {
        let of = self.blocked.get(id)?.iter().filter_map(|at| self.index.blocked.get(*at));
        of.into_iter().find(|blocked| blocked.version.as_ref().is_none_or(|of| of == version))
    }
}

impl Entry {
    /// The number of words that are in neither id nor name; `None` where one is nowhere.
    fn rank(&self, words: &[Finder<'_>]) -> Option<usize> {
        let mut elsewhere = 0;
        for word in words {
            // The name comes first, so the first place of a word says whether it is in there.
            if word.find(self.text.as_bytes())? >= self.named {
                elsewhere += 1;
            }
        }
        Some(elsewhere)
    }
}

#[cfg(test)]
mod tests;
