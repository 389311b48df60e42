//! The history of alarms: the episodes that are over, from the store, and those that go on, from the lanes.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{after, next, show};
use crate::api::facade::{Alarm, Answer, EpisodesQuery, Order, Page, Problem};
use crate::fold::Gone;
use crate::fold::episodes::{Episodes, HistoryPlace};
use crate::node::pages::{Filling, Smallest};
use crate::node::{Node, problems};
use crate::records::alarm::AlarmRecord;
use ironloom_types::ids::{Generation, InstallationId, TenantId};

/// The time that one request searches; the next page continues.
const PATIENCE: Duration = Duration::from_secs(1);
/// Places that are looked up in one step.
const AT_ONCE: usize = 512;

impl Node {
    /// Episodes in the order of their `since`.
    pub(in crate::node) fn list_episodes(
        &self,
        tenant: TenantId,
        query: &EpisodesQuery,
    ) -> Answer<Page<Alarm>> {
        let generations = self.generations();
        let own = query.installation.as_ref().map(|id| {
            let own = generations.iter().filter(|(_, of)| *of == id).map(|(generation, _)| *generation);
            own.collect::<Vec<_>>()
        });
        if let (Some(own), Some(id)) = (&own, &query.installation)
            && own.is_empty()
        {
            return Err(Problem::not_found(format!(
                "there is no installation {id}, nor are there alarms of one"
            )));
        }
        let places = Episodes {
            tenant,
            generations: own,
            from: query.from,
            to: query.to,
            newest_first: query.order == Order::Newest,
        };
        let (started, now) = (Instant::now(), self.shared.clock.now());
        let mut last = after(tenant, &query.page)?;
        let mut page = Filling::new(query.page.limit);
        while started.elapsed() < PATIENCE {
            let most = AT_ONCE.min(query.page.limit + 1);
            let found = self.places(&places, last, most).map_err(|error| problems::internal(&error))?;
            let is_end = found.len() < most;
            for place in found {
                let alarm = self.episode(place).map_err(|error| problems::internal(&error))?;
                let installation = generations.get(&place.generation);
                let wanted = alarm.filter(|alarm| is_wanted(query, alarm)).zip(installation);
                if wanted.is_some_and(|(alarm, id)| !page.push(show(id, place.generation, &alarm, now))) {
                    return Ok(Page { items: page.items, next: last.map(next) });
                }
                last = Some(place);
            }
            if is_end {
                return Ok(Page { items: page.items, next: None });
            }
        }
        Ok(Page { items: page.items, next: last.map(next) })
    }

    /// The installation of each generation of which something is there.
    fn generations(&self) -> HashMap<Generation, InstallationId> {
        let of_gone = |(generation, gone): (&Generation, &Gone)| (*generation, gone.installation.clone());
        // In a statement of its own, which lets go of the lock.
        let gone: Vec<_> = self.shared.removed.lock().iter().map(of_gone).collect();
        let lanes = self.lanes.all();
        gone.into_iter().chain(lanes.iter().map(|lane| (lane.generation, lane.id.clone()))).collect()
    }

    /// The next places after this one, fewer than `most` only at the end.
    fn places(
        &self,
        episodes: &Episodes,
        after: Option<HistoryPlace>,
        most: usize,
    ) -> Result<Vec<HistoryPlace>, String> {
        // Before the store is asked, so that what is over meanwhile is in one of the two.
        let mut current = Vec::new();
        for lane in self.lanes.all().iter().filter(|lane| episodes.have(lane.generation)) {
            let book = lane.book();
            let all = book.alarms().values().map(|alarm| HistoryPlace::of(lane.generation, alarm));
            current.extend(all.filter(|place| episodes.is_after(after, *place)));
        }
        let over = self.shared.episode_places(episodes, after, most)?;
        let all = current.into_iter().chain(over);
        if episodes.newest_first {
            Ok(first(all.map(Reverse), most).into_iter().map(|Reverse(place)| place).collect())
        } else {
            Ok(first(all, most))
        }
    }

    fn episode(&self, place: HistoryPlace) -> Result<Option<AlarmRecord>, String> {
        let lane = self.lanes.of_generation(place.generation);
        let current = lane.and_then(|lane| lane.book().alarm_numbered(place.number).cloned());
        match current {
            Some(alarm) => Ok(Some(alarm)),
            None => self.shared.episode(place),
        }
    }
}

/// The first of these, each once.
fn first<T: Ord>(places: impl Iterator<Item = T>, most: usize) -> Vec<T> {
    // One that was over in between comes from both sides.
    let mut smallest = Smallest::new(2 * most);
    places.for_each(|place| smallest.push(place));
    let mut sorted = smallest.into_sorted();
    sorted.dedup();
    sorted.truncate(most);
    sorted
}

fn is_wanted(query: &EpisodesQuery, alarm: &AlarmRecord) -> bool {
    query.code.as_ref().is_none_or(|code| *code == alarm.code)
        && query.entity.as_ref().is_none_or(|entity| **entity == *alarm.entity)
        && query.severity.is_none_or(|least| alarm.severity >= least)
}
