//! The words for that which `catalog sign` signs: what is new in a root or an index against the one before.

use std::collections::{BTreeMap, BTreeSet};

use super::known::second;
use crate::catalogs::author::Pending;
use ironloom_trust::catalog::index::Index;
use ironloom_trust::catalog::root::Root;
use ironloom_trust::envelope::Keys;
use ironloom_trust::rotation::Rotation;
use ironloom_types::text::listed;

/// The most differences that are shown of a kind.
const MOST_SHOWN: usize = 50;

/// The lines for what waits for signatures.
pub(super) fn lines(pending: &Pending) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(root) = &pending.root {
        of_root(&mut lines, pending.root_before.as_ref(), root);
    }
    if let Some(index) = &pending.index {
        of_index(&mut lines, pending.index_before.as_ref(), index);
    }
    lines
}

fn of_root(lines: &mut Vec<String>, before: Option<&Root>, root: &Root) {
    lines.push(format!(
        "root {} of {}, which holds until {}:",
        root.version,
        root.catalog,
        second(root.expires)
    ));
    of_keys(lines, "roots", before.map(|before| &before.root), &root.root);
    of_keys(lines, "indexes", before.map(|before| &before.index), &root.index);
    let says = |root: &Root| -> BTreeSet<String> { root.rotations.iter().map(rotation_text).collect() };
    differences(lines, &before.map(says).unwrap_or_default(), &says(root));
}

fn rotation_text(rotation: &Rotation) -> String {
    format!("{} takes the place of {} for {}", rotation.to, rotation.from, rotation.apps)
}

fn of_keys(lines: &mut Vec<String>, what: &str, before: Option<&Keys>, keys: &Keys) {
    let was = before.filter(|before| before.threshold != keys.threshold);
    let was = was.map_or_else(String::new, |before| format!(", before {}", before.threshold));
    lines.push(format!("  {} of {} keys sign {what}{was}", keys.threshold, keys.keys.len()));
    let texts = |keys: &Keys| keys.keys.iter().map(ToString::to_string).collect();
    differences(lines, &before.map(texts).unwrap_or_default(), &texts(keys));
}

fn of_index(lines: &mut Vec<String>, before: Option<&Index>, index: &Index) {
    let after = before.map_or_else(String::new, |before| format!(", after index {}", before.version));
    lines.push(format!(
        "index {} of {}{after}, with {} apps, which holds until {}:",
        index.version,
        index.catalog,
        index.apps.len(),
        second(index.expires)
    ));
    differences(lines, &before.map(facts).unwrap_or_default(), &facts(index));
}

/// All that an index says, a line for each fact.
fn facts(index: &Index) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for app in &index.apps {
        // The key is that of the newest version: who has signed the others stands in their packages.
        facts.insert(format!("app {}: its newest version is signed by {}", app.id, app.key));
        for version in &app.versions {
            facts.insert(format!("app {} {}: {}", app.id, version.version, version.digest));
        }
    }
    let mut publishers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for publisher in &index.publishers {
        let may = format!("{} may sign {}", listed(&publisher.keys), listed(&publisher.prefixes));
        publishers.entry(&publisher.name).or_default().push(may);
    }
    for (name, may) in publishers {
        facts.extend(may.into_iter().map(|may| format!("publisher {name}: {may}")));
    }
    let revoked = index.revoked.iter().map(|one| format!("revoked key {}: {}", one.key, one.reason));
    let blocked = index.blocked.iter().map(|one| {
        let version = one.version.as_ref().map_or("all versions".to_owned(), ToString::to_string);
        format!("blocked {} {version}: {}", one.id, one.reason)
    });
    // A server takes none that says anything else.
    let rotations = index.rotations.iter().filter_map(|json| Rotation::read(json.as_bytes()).ok());
    facts.extend(revoked.chain(blocked).chain(rotations.map(|rotation| rotation_text(&rotation))));
    facts
}

/// The lines for what is new, and for what isn't there any more.
fn differences(lines: &mut Vec<String>, before: &BTreeSet<String>, now: &BTreeSet<String>) {
    for (sign, of, without) in [('+', now, before), ('-', before, now)] {
        let all: Vec<&String> = of.difference(without).collect();
        lines.extend(all.iter().take(MOST_SHOWN).map(|one| format!("  {sign} {one}")));
        if let Some(more) = all.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
            lines.push(format!("  {sign} and {more} more"));
        }
    }
}
