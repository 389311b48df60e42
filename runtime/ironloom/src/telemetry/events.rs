//! What happens on the site, for whoever listens: the last events in memory, each with a number.
//!
//! Telling waits for nobody, so that the fold can do it. A listener that reads too slowly, or comes back after a restart,
//! is told that there is a gap.

mod what;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

pub(crate) use self::what::What;
use ironloom_types::clock::{Timestamp, host_time};
use ironloom_types::ids::InstallationId;

/// Events that are kept.
const KEPT: usize = 10_000;
/// Bytes that they may have, each counted as [`EVENT`] and its texts.
const KEPT_BYTES: usize = 8 << 20;
/// About the bytes of an event besides its texts.
const EVENT: usize = 256;
/// The longest text of an event, in characters.
const TEXT: usize = 256;
/// Things that may happen often to one installation or connector are told this often at most.
const EVERY: Duration = Duration::from_secs(1);
/// Of so many at most it is remembered when they were told last. Beyond: what others have to tell
/// is left out until there is room.
const SPARED: usize = 4_096;

/// An event with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Counts the events of this run of the server, from 1.
    pub number: u64,
    /// The time, by the machine's clock.
    pub at: Timestamp,
    pub what: What,
}

/// The events of this run of the server.
#[derive(Debug)]
pub(crate) struct Events {
    /// Tells this run from others.
    run: u64,
    /// Set once what happens is new and not read back from the log.
    is_live: AtomicBool,
    kept: Mutex<Kept>,
    spared: Mutex<HashMap<(&'static str, String), Spared>>,
    /// The number of the last event.
    last: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    events: VecDeque<Event>,
    bytes: usize,
    last: u64,
}

#[derive(Debug)]
struct Spared {
    told: Instant,
    waiting: Option<What>,
}

/// Events behind a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Next {
    /// The number of events before these that nobody can read any more.
    pub lost: u64,
    pub events: Vec<Event>,
}

impl Default for Events {
    fn default() -> Self {
        let (last, _) = watch::channel(0);
        Self {
            run: host_time().0,
            is_live: AtomicBool::new(false),
            kept: Mutex::default(),
            spared: Mutex::default(),
            last,
        }
    }
}

impl Events {
    /// From now on events are told.
    pub(crate) fn go_live(&self) {
        self.is_live.store(true, Ordering::Release);
    }

    /// Tells an event.
    pub(crate) fn tell(&self, what: What) {
        if !self.is_live.load(Ordering::Acquire) {
            return;
        }
        // An earlier state that waits would be told behind this one, as if it were the newer.
        if what.is_state()
            && let Some(before) = self.spared.lock().get_mut(&what.teller())
        {
            before.waiting = None;
        }
        self.add(what);
    }

    fn add(&self, what: What) {
        let what = what.bounded();
        let mut kept = self.kept.lock();
        kept.last += 1;
        kept.bytes += what.bytes();
        let event = Event { number: kept.last, at: host_time(), what };
        kept.events.push_back(event);
        while kept.events.len() > KEPT || kept.bytes > KEPT_BYTES {
            let Some(gone) = kept.events.pop_front() else { break };
            kept.bytes -= gone.what.bytes();
        }
        // Under the lock, so that numbers only rise.
        self.last.send_replace(kept.last);
    }

    /// Tells something that may happen often: at once, or together with what comes within a second.
    pub(crate) fn tell_sparingly(&self, what: What) {
        if !self.is_live.load(Ordering::Acquire) {
            return;
        }
        let mut spared = self.spared.lock();
        let (now, is_full) = (Instant::now(), spared.len() >= SPARED);
        match spared.get_mut(&what.teller()) {
            Some(before) => {
                before.waiting = Some(match before.waiting.take() {
                    Some(waiting) => waiting.and(what),
                    None => what,
                });
            }
            None if is_full => {}
            None => {
                spared.insert(what.teller(), Spared { told: now, waiting: None });
                drop(spared);
                self.add(what);
            }
        }
    }

    /// Tells what has waited long enough. Called again and again.
    pub(crate) fn flush(&self) {
        let mut due = Vec::new();
        self.spared.lock().retain(|_, spared| {
            if spared.told.elapsed() < EVERY {
                return true;
            }
            let what = spared.waiting.take();
            let stays = what.is_some();
            spared.told = Instant::now();
            due.extend(what);
            stays
        });
        due.into_iter().for_each(|what| self.add(what));
    }

    /// The place of what comes from now on.
    pub(crate) fn now(&self) -> u64 {
        self.kept.lock().last
    }

    /// The id of an event, from which a listener goes on.
    pub(crate) fn id(&self, number: u64) -> String {
        format!("{:x}-{number}", self.run)
    }

    /// The place that an id names; `None` where it is of another run.
    pub(crate) fn place(&self, id: &str) -> Option<u64> {
        let (run, number) = id.split_once('-')?;
        let number: u64 = number.parse().ok()?;
        (u64::from_str_radix(run, 16).ok()? == self.run && number <= self.now()).then_some(number)
    }

    /// At most so many events after this place, or after all that are gone.
    pub(crate) fn after(&self, place: u64, most: usize) -> Next {
        let kept = self.kept.lock();
        let first = kept.events.front().map_or(kept.last + 1, |event| event.number);
        let lost = first.saturating_sub(place + 1);
        let from = usize::try_from((place + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        Next { lost, events: kept.events.iter().skip(from).take(most).cloned().collect() }
    }

    /// Says whether one of those that are kept is of this installation.
    pub(crate) fn name(&self, id: &InstallationId) -> bool {
        self.kept.lock().events.iter().any(|event| event.what.installation() == Some(id))
    }

    /// Changes with each new event.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::TenantId;

    fn events() -> Events {
        let events = Events::default();
        events.go_live();
        events
    }

    fn letters(count: u64) -> What {
        What::DeadLetters { installation: InstallationId::new(TenantId::MAIN, "pigs").unwrap(), count }
    }

    fn numbers(next: &Next) -> Vec<u64> {
        next.events.iter().map(|event| event.number).collect()
    }

    #[test]
    fn the_last_events_are_kept_and_what_is_gone_is_counted() {
        let events = events();
        for _ in 0..KEPT + 5 {
            events.tell(What::Disk { state: "low" });
        }
        let next = events.after(2, 3);
        assert_eq!((next.lost, numbers(&next)), (3, vec![6, 7, 8]));
        let next = events.after(8, 2);
        assert_eq!((next.lost, numbers(&next)), (0, vec![9, 10]));
        assert!(!events.name(&InstallationId::new(TenantId::MAIN, "pigs").unwrap()));
        events.tell(letters(1));
        assert!(
            events.name(&InstallationId::new(TenantId::MAIN, "pigs").unwrap())
                && !events.name(&InstallationId::new(TenantId::MAIN, "pig").unwrap())
        );
        assert_eq!(events.now(), KEPT as u64 + 6);
        assert_eq!(events.after(events.now(), 9), Next { lost: 0, events: Vec::new() });
    }

    #[test]
    fn long_texts_take_no_more_than_there_is_room() {
        let events = events();
        let error = Some("x".repeat(10_000));
        for _ in 0..KEPT {
            let (connector, state) = ("csv".to_owned(), "stopped".to_owned());
            events.tell(What::Connector { connector, part: None, state, error: error.clone() });
        }
        let next = events.after(0, usize::MAX);
        assert!(next.events.iter().map(|event| event.what.bytes()).sum::<usize>() <= KEPT_BYTES);
        assert!(next.events.len() > KEPT_BYTES / (2 * (EVENT + TEXT)));
    }

    #[test]
    fn an_id_of_another_run_is_no_place() {
        let events = events();
        events.tell(What::Clock { state: "behind" });
        assert_eq!(events.place(&events.id(1)), Some(1));
        assert_eq!(events.place(&events.id(2)), None, "it has not happened");
        let other = Events { run: events.run + 1, ..Events::default() };
        assert_eq!(events.place(&other.id(1)), None);
        assert_eq!((events.place("nonsense"), events.place("-1"), events.place("")), (None, None, None));
    }

    #[test]
    fn what_happens_often_is_told_together() {
        let events = events();
        for _ in 0..100 {
            events.tell_sparingly(letters(3));
        }
        events.flush();
        assert_eq!(numbers(&events.after(0, 9)), [1], "the others wait");
        events.spared.lock().values_mut().for_each(|spared| spared.told = Instant::now() - EVERY);
        events.flush();
        let next = events.after(1, 9);
        assert_eq!(next.events[0].what, letters(297));
        events.spared.lock().values_mut().for_each(|spared| spared.told = Instant::now() - EVERY);
        events.flush();
        assert!(events.spared.lock().is_empty(), "nothing waits");
    }

    #[test]
    fn the_last_state_told_is_the_newest() {
        let events = events();
        let is = |state| What::Installation {
            installation: InstallationId::new(TenantId::MAIN, "pigs").unwrap(),
            state,
            reason: None,
        };
        events.tell_sparingly(is("waiting"));
        events.tell_sparingly(is("running"));
        events.tell(is("quarantined"));
        events.spared.lock().values_mut().for_each(|spared| spared.told = Instant::now() - EVERY);
        events.flush();
        let told: Vec<_> = events.after(0, 9).events.into_iter().map(|event| event.what).collect();
        assert_eq!(told, [is("waiting"), is("quarantined")]);
    }

    #[test]
    fn each_part_of_a_connector_has_a_state_of_its_own() {
        let events = events();
        let is = |part, state: &str| What::Connector {
            connector: "plant".to_owned(),
            part,
            state: state.to_owned(),
            error: None,
        };
        for part in [None, Some("set-points")] {
            events.tell_sparingly(is(part, "running"));
        }
        events.tell_sparingly(is(Some("set-points"), "waiting"));
        events.tell_sparingly(is(None, "waiting"));
        events.tell_sparingly(is(None, "running"));
        events.spared.lock().values_mut().for_each(|spared| spared.told = Instant::now() - EVERY);
        events.flush();
        let told: Vec<_> = events.after(0, 9).events.into_iter().map(|event| event.what).collect();
        assert_eq!(told.len(), 4);
        assert!(
            told.contains(&is(Some("set-points"), "waiting")) && told.contains(&is(None, "running")),
            "{told:?}"
        );
    }

    #[test]
    fn nothing_is_told_of_what_a_start_reads_back() {
        let events = Events::default();
        events.tell(What::Disk { state: "low" });
        events.tell_sparingly(letters(1));
        assert_eq!(events.now(), 0);
    }

    #[test]
    fn each_kind_is_in_the_list() {
        let installation = InstallationId::new(TenantId::MAIN, "pigs").unwrap();
        let unconfirmed = What::Unconfirmed { installation, count: 1 };
        let all = [letters(1), unconfirmed, What::Disk { state: "ok" }, What::Clock { state: "behind" }];
        for what in all {
            assert!(What::KINDS.contains(&what.kind()));
            assert_eq!(serde_json::to_value(&what).unwrap()["kind"], what.kind());
        }
    }
}
