//! The audit log as it is listed: chains put together in the order of their times.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use super::super::pages::Filling;
use super::super::{Node, problems};
use crate::api::facade::{
    Answer, AuditCheckpoint, AuditEntry, AuditQuery, Chains, Order, Page, PageQuery, Place, Problem,
};
use crate::fold::Shared;
use crate::fold::audit::First;
use crate::records::audit::{CheckpointRecord, KeptEntry};
use ironloom_trust::audit::{Chain, Checkpoint, Entry};

/// Entries of a chain that are read in one step, and those that one page looks at.
const AT_ONCE: usize = 256;
const MOST_LOOKED_AT: usize = 50_000;

impl Node {
    pub(in crate::node) fn list_entries(&self, sees: Chains, query: &AuditQuery) -> Answer<Page<AuditEntry>> {
        let places = query.page.after.as_deref().map_or(Ok(BTreeMap::new()), places)?;
        let heads = self.shared.audit.heads();
        let wanted = heads.all().map(|(chain, _)| chain);
        let wanted = wanted.filter(|chain| sees.have(*chain));
        let wanted = wanted.filter(|chain| query.chain.is_none_or(|only| only == *chain));
        let mut merged = Merged {
            shared: &self.shared,
            first: if query.order == Order::Newest { First::Newest } else { First::Oldest },
            chains: wanted
                .map(|chain| Ahead {
                    chain,
                    place: places.get(&chain).copied(),
                    read: VecDeque::new(),
                    is_over: false,
                })
                .collect(),
        };
        let mut page = Filling::new(query.page.limit);
        for _ in 0..MOST_LOOKED_AT {
            let Some(ahead) = merged.next().map_err(|error| problems::internal(&error))? else {
                return Ok(Page { items: page.items, next: None });
            };
            let Some(KeptEntry { entry, hash }) = ahead.read.front().cloned() else { continue };
            let number = entry.number;
            if is_wanted(query, &entry) && !page.push(AuditEntry::of(entry, hash)) {
                return Ok(Page { items: page.items, next: Some(merged.places()) });
            }
            ahead.read.pop_front();
            ahead.place = Some(number);
        }
        Ok(Page { items: page.items, next: Some(merged.places()) })
    }

    pub(in crate::node) fn list_checkpoints(
        &self,
        sees: Chains,
        query: &PageQuery,
    ) -> Answer<Page<AuditCheckpoint>> {
        let behind = query.after.as_deref().map(place).transpose()?;
        let found = self.shared.checkpoints(behind, query.limit + 1, |chain| sees.have(chain));
        let found = found.map_err(|error| problems::internal(&error))?;
        let mut page = Filling::new(query.limit);
        let mut last = None;
        for one in found {
            let named = format!("{}:{}", one.chain, one.number);
            if !page.push(shown(one)?) {
                return Ok(Page { items: page.items, next: last });
            }
            last = Some(named);
        }
        Ok(Page { items: page.items, next: None })
    }

    /// The last checkpoint of each chain.
    pub(in crate::node) fn last_checkpoints(&self) -> Answer<Page<AuditCheckpoint>> {
        let mut items = Vec::new();
        for (chain, _) in self.shared.audit.heads().all() {
            let Some((number, _)) = self.shared.audit.signed(chain) else { continue };
            let behind = number.checked_sub(1).map(|before| (chain, before));
            let found =
                self.shared.checkpoints(behind, 1, |_| true).map_err(|error| problems::internal(&error))?;
            for one in found {
                items.push(shown(one)?);
            }
        }
        Ok(Page { items, next: None })
    }
}

fn shown(kept: CheckpointRecord) -> Answer<AuditCheckpoint> {
    let CheckpointRecord { chain, number, time, envelope } = kept;
    let read = Checkpoint::read(&envelope, None).map_err(|error| problems::internal(&error))?;
    let (chain, key) = (chain.to_string(), read.key.to_string());
    Ok(AuditCheckpoint { chain, number, time, key, envelope: envelope.into() })
}

fn is_wanted(query: &AuditQuery, entry: &Entry) -> bool {
    let is = |wanted: &Option<String>, text: &str| wanted.as_ref().is_none_or(|wanted| wanted == text);
    let said = &entry.said;
    is(&query.who, &said.who)
        && is(&query.action, &said.action)
        && query.resource.as_ref().is_none_or(|begins| is_about(&said.resource, begins))
        && query.result.is_none_or(|result| result == said.outcome)
        && query.from.is_none_or(|from| from <= entry.time)
        && query.to.is_none_or(|to| entry.time < to)
}

/// Says whether a resource begins like this. What an installation waits for is about it as well.
fn is_about(resource: &str, begins: &str) -> bool {
    let id = begins.strip_prefix("installations/").filter(|id| !id.is_empty());
    let waits = id.zip(resource.strip_prefix("consents/")).is_some_and(|(id, of)| of.starts_with(id));
    resource.starts_with(begins) || waits
}

/// A chain that is read ahead.
struct Ahead {
    chain: Chain,
    /// The last entry that was looked at.
    place: Option<u64>,
    read: VecDeque<KeptEntry>,
    is_over: bool,
}

struct Merged<'a> {
    shared: &'a Shared,
    first: First,
    chains: Vec<Ahead>,
}

impl Merged<'_> {
    /// The chain whose next entry comes next.
    fn next(&mut self) -> Result<Option<&mut Ahead>, String> {
        for ahead in self.chains.iter_mut().filter(|ahead| ahead.read.is_empty() && !ahead.is_over) {
            let read = self.shared.entries(ahead.chain, ahead.place, self.first, AT_ONCE)?;
            ahead.is_over = read.is_empty();
            ahead.read = read.into();
        }
        let first = self.first;
        let waiting = self.chains.iter_mut().filter(|ahead| !ahead.read.is_empty());
        Ok(waiting.min_by_key(|ahead| {
            let time = ahead.read.front().map_or(0, |first| first.entry.time.0);
            (if first == First::Newest { Err(Reverse(time)) } else { Ok(time) }, ahead.chain)
        }))
    }

    /// The place where the next page goes on.
    fn places(&self) -> String {
        let places = self.chains.iter().filter_map(|ahead| Some((ahead.chain, ahead.place?)));
        let places: Vec<_> = places.map(|(chain, number)| format!("{chain}:{number}")).collect();
        places.join(",")
    }
}

fn place(text: &str) -> Answer<(Chain, u64)> {
    let read =
        text.split_once(':').and_then(|(chain, number)| Some((chain.parse().ok()?, number.parse().ok()?)));
    read.ok_or_else(|| {
        let detail = format!("`after` is the `next` of a page, and {text:?} is not one");
        Problem::malformed("bad-parameter", detail).at(Place::field("after"))
    })
}

fn places(text: &str) -> Answer<BTreeMap<Chain, u64>> {
    text.split(',').map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_about_an_installation_has_its_consents() {
        for (resource, begins, expected) in [
            ("installations/rooms", "installations/rooms", true),
            ("installations/rooms/rollback", "installations/rooms", true),
            ("consents/rooms", "installations/rooms", true),
            ("consents/rooms", "installations/pigs", false),
            ("consents/rooms", "installations/", false),
            ("consents/rooms", "consents/", true),
            ("tokens/rooms", "installations/rooms", false),
        ] {
            assert_eq!(is_about(resource, begins), expected, "{resource} by {begins}");
        }
    }
}
