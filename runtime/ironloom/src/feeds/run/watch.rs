//! The deeds of an app since the last look.

use std::collections::BTreeMap;
use std::time::Duration;

use ironloom_apps::pattern::Pattern;

use super::super::{Event, FeedError, Output};
use super::refused;
use crate::api::facade::{
    Alarm, AlarmState, EpisodesQuery, Facade, Installation, Invocation, NumberedQuery, Order, OutputsQuery,
    PageQuery, ReadingItem, ReadingsQuery, StateItem,
};
use crate::api::host::SetPointEnd;
use crate::api::value::JsonValue;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, Ordinal, PointPath, Sequence, TenantId};
use ironloom_types::readings::Quality;
use ironloom_types::work::Counters;

/// Items of one page.
const PAGE: usize = 10_000;
/// Episodes of alarms on one page.
const EPISODES: usize = 100;
/// The wait for the last lines of the app's log; a thread of its own writes them.
const LAST_LINES: Duration = Duration::from_millis(20);

/// The places in an installation's lists up to which they have been looked at.
#[derive(Debug)]
pub(super) struct Watch {
    id: InstallationId,
    /// Outputs that are bound, by name.
    bound: Vec<(String, Pattern)>,
    counters: Counters,
    outputs: Sequence,
    letters: u64,
    ordinal: Ordinal,
    lines: u64,
    /// The number of the last episode of an alarm.
    episode: u64,
    /// Alarms as they were, by code and entity.
    alarms: BTreeMap<(String, String), Alarm>,
    /// The last run of each timer whose last run asked for a retry, by name.
    retrying: BTreeMap<String, Invocation>,
    pub(super) taken: u64,
    pub(super) invocations: u64,
    pub(super) timers: u64,
}

type On<'a> = &'a mut (dyn FnMut(Event) + Send);

impl Watch {
    pub(super) fn new(id: InstallationId) -> Self {
        Self {
            id,
            bound: Vec::new(),
            counters: Counters::default(),
            outputs: Sequence(0),
            letters: 0,
            ordinal: Ordinal(0),
            lines: 0,
            episode: 0,
            alarms: BTreeMap::new(),
            retrying: BTreeMap::new(),
            taken: 0,
            invocations: 0,
            timers: 0,
        }
    }

    /// Learns which points belong to which output.
    pub(super) fn bound_as(&mut self, installation: &Installation) {
        let all = installation.bindings.iter().flat_map(|(name, patterns)| {
            patterns
                .as_slice()
                .iter()
                .filter_map(move |text| Some((name.to_string(), Pattern::new(TenantId::MAIN, text).ok()?)))
        });
        self.bound = all.collect();
    }

    /// Tells what the app has done since the last look. It is done with everything through `time`.
    pub(super) async fn look(
        &mut self,
        node: &dyn Facade,
        time: Timestamp,
        on: On<'_>,
    ) -> Result<(), FeedError> {
        let counters = node.installation(self.id.clone()).await.map_err(refused)?.counters;
        let before = std::mem::replace(&mut self.counters, counters);
        self.taken = counters.readings;
        self.invocations = counters.invocations;
        if counters.invocations == before.invocations {
            return Ok(());
        }
        if counters.derived > before.derived {
            self.outputs(node, on).await?;
        }
        self.alarms(node, time, on).await?;
        if counters.dead_letters > before.dead_letters {
            self.dead_letters(node, on).await?;
        }
        self.invocations(node, on).await?;
        self.lines(node, time, on).await
    }

    /// Tells the last lines of the app's log.
    pub(super) async fn last_lines(
        &mut self,
        node: &dyn Facade,
        time: Timestamp,
        on: On<'_>,
    ) -> Result<(), FeedError> {
        tokio::time::sleep(LAST_LINES).await;
        self.lines(node, time, on).await
    }

    async fn outputs(&mut self, node: &dyn Facade, on: On<'_>) -> Result<(), FeedError> {
        loop {
            let readings = ReadingsQuery { after: self.outputs, limit: PAGE, ..ReadingsQuery::default() };
            let query = OutputsQuery { output: None, readings };
            let page = node.outputs(self.id.clone(), query).await.map_err(refused)?;
            let more = page.next.is_some();
            for item in page.items {
                self.outputs = item.sequence;
                on(self.output(item));
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn output(&self, item: ReadingItem) -> Event {
        let ReadingItem { point, entity, value, at, quality, time, .. } = item;
        let own = format!("apps/{}/", self.id);
        let by_default = point.strip_prefix(&own).and_then(|rest| rest.split('/').next()).map(str::to_owned);
        let by_binding = || {
            let path = PointPath::new(TenantId::MAIN, &point).ok()?;
            self.bound.iter().find(|(_, pattern)| pattern.matches(&path)).map(|(name, _)| name.clone())
        };
        let output = by_default.or_else(by_binding).unwrap_or_else(|| point.to_string());
        Event::Output(Output {
            time,
            output,
            entity: entity.unwrap_or_default(),
            value,
            at: (at != time).then_some(at),
            quality: (quality != Quality::Good).then_some(quality),
        })
    }

    async fn alarms(&mut self, node: &dyn Facade, time: Timestamp, on: On<'_>) -> Result<(), FeedError> {
        let mut now = BTreeMap::new();
        let mut after = None;
        loop {
            let page = PageQuery { after, limit: PAGE };
            let page = node.alarms(self.id.tenant(), Some(self.id.clone()), page).await.map_err(refused)?;
            now.extend(
                page.items.into_iter().map(|alarm| ((alarm.code.to_string(), alarm.entity.clone()), alarm)),
            );
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let mut episodes = self.new_episodes(node).await?;
        let known = now.values().filter(|alarm| number(alarm) <= self.episode);
        episodes.extend(known.cloned());
        episodes.sort_by_key(number);
        for alarm in episodes {
            let key = (alarm.code.to_string(), alarm.entity.clone());
            for (state, at) in changes(self.alarms.get(&key), &alarm) {
                let is_end = state == "cleared";
                on(Event::Alarm {
                    time: if at { alarm.raised } else { time },
                    alarm: alarm.code.to_string(),
                    entity: alarm.entity.clone(),
                    state: state.to_owned(),
                    severity: (!is_end).then(|| alarm.severity.clone()),
                    message: (!is_end).then(|| alarm.message.clone()),
                });
            }
            self.episode = self.episode.max(number(&alarm));
            self.alarms.insert(key, alarm);
        }
        self.alarms = now;
        Ok(())
    }

    /// Episodes that began since the last look, those that are over by now, too.
    async fn new_episodes(&self, node: &dyn Facade) -> Result<Vec<Alarm>, FeedError> {
        let (mut new, mut after) = (Vec::new(), None);
        loop {
            let query = EpisodesQuery {
                installation: Some(self.id.clone()),
                code: None,
                entity: None,
                severity: None,
                from: None,
                to: None,
                order: Order::Newest,
                page: PageQuery { after, limit: EPISODES },
            };
            let page = node.alarm_history(self.id.tenant(), query).await.map_err(refused)?;
            // They are in the order of `since`, which an app may say, so a page with none that is new is the end.
            let before = new.len();
            new.extend(page.items.into_iter().filter(|alarm| number(alarm) > self.episode));
            after = page.next;
            if new.len() == before || after.is_none() {
                return Ok(new);
            }
        }
    }

    async fn dead_letters(&mut self, node: &dyn Facade, on: On<'_>) -> Result<(), FeedError> {
        loop {
            let page = node.dead_letters(self.id.clone(), after(self.letters)).await.map_err(refused)?;
            let more = page.next.is_some();
            for letter in page.items {
                self.letters = letter.number;
                let reading = letter.reading;
                on(Event::SetAside {
                    time: reading.time,
                    set_aside: reading.point.to_string(),
                    entity: reading.entity.unwrap_or_default(),
                    value: reading.value,
                    at: reading.at,
                    reason: letter.reason,
                });
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn invocations(&mut self, node: &dyn Facade, on: On<'_>) -> Result<(), FeedError> {
        loop {
            let page = node.invocations(self.id.clone(), after(self.ordinal.0)).await.map_err(refused)?;
            let more = page.next.is_some();
            for invocation in page.items {
                self.ordinal = self.ordinal.max(invocation.ordinal);
                self.timers += u64::from(invocation.timer.is_some() && invocation.outcome == "ok");
                if let Some(timer) = &invocation.timer {
                    self.retrying.remove(timer);
                    if invocation.outcome == "retry" {
                        self.retrying.insert(timer.clone(), invocation);
                        continue;
                    }
                }
                if let Some(event) = failed(invocation) {
                    on(event);
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Tells the timers that still ask for a retry at the end, of those that wait: what they waited for never came.
    pub(super) fn never_came(&mut self, waiting: &[String], on: On<'_>) {
        let retrying = std::mem::take(&mut self.retrying);
        let left = retrying.into_iter().filter(|(timer, _)| waiting.contains(timer));
        left.filter_map(|(_, invocation)| failed(invocation)).for_each(on);
    }

    async fn lines(&mut self, node: &dyn Facade, time: Timestamp, on: On<'_>) -> Result<(), FeedError> {
        loop {
            let page = node.logs(self.id.clone(), after(self.lines)).await.map_err(refused)?.page;
            let more = page.next.is_some();
            for line in page.items {
                self.lines = line.number;
                let context =
                    if line.context.is_empty() { String::new() } else { format!("{}: ", line.context) };
                on(Event::Log { time, log: line.level, message: format!("{context}{}", line.message) });
            }
            if !more {
                return Ok(());
            }
        }
    }
}

/// A page of what comes after this number.
fn after(number: u64) -> NumberedQuery {
    NumberedQuery { after: Some(number), limit: PAGE, ..NumberedQuery::default() }
}

/// Counts the episodes of the installation.
fn number(alarm: &Alarm) -> u64 {
    alarm.id.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The transitions of an alarm between two looks; with `true` at the time that it was raised.
fn changes(before: Option<&Alarm>, now: &Alarm) -> Vec<(&'static str, bool)> {
    let stands = |alarm: &Alarm| matches!(alarm.state, AlarmState::Unacknowledged | AlarmState::Acknowledged);
    let mut all = Vec::new();
    match before.filter(|before| before.id == now.id) {
        Some(before) => match (stands(before), stands(now)) {
            (true, false) => all.push(("cleared", false)),
            (true, true) if before.message != now.message => all.push(("told", false)),
            _ => {}
        },
        None => {
            if before.is_some_and(stands) {
                all.push(("cleared", false));
            }
            all.push(("raised", true));
            if !stands(now) {
                all.push(("cleared", false));
            }
        }
    }
    all
}

/// A failure, unless it is told by the readings that were set aside. A timer has none.
fn failed(invocation: Invocation) -> Option<Event> {
    let is_told = match invocation.outcome.as_str() {
        "ok" => true,
        "reject" => invocation.timer.is_none(),
        _ => false,
    };
    (!is_told).then(|| Event::Failed {
        time: invocation.time,
        failed: invocation.outcome,
        timer: invocation.timer,
        message: invocation.message.unwrap_or_default(),
    })
}

pub(super) fn of_set_point(end: SetPointEnd) -> Event {
    let SetPointEnd { time, output, entity, value, asked, outcome, reason } = end;
    let asked = asked.filter(|asked| value.as_ref() != Some(asked));
    Event::SetPoint {
        time,
        set_point: output.to_string(),
        entity: entity.to_string(),
        value: value.map(JsonValue),
        asked: asked.map(JsonValue),
        outcome: outcome.to_owned(),
        reason,
    }
}

pub(super) fn of_state(item: StateItem) -> Event {
    let json = serde_json::from_slice(&item.value).ok();
    let text = || std::str::from_utf8(&item.value).ok().map(serde_json::Value::from);
    let base64 = || {
        use base64::Engine as _;
        serde_json::json!({"base64": base64::engine::general_purpose::STANDARD.encode(&item.value)})
    };
    Event::State { state: item.key.into(), value: json.or_else(text).unwrap_or_else(base64) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ironloom_types::ids::SlotName;

    fn alarm(id: &str, state: AlarmState, message: &str) -> Alarm {
        Alarm {
            id: id.to_owned(),
            installation: InstallationId::new(TenantId::MAIN, "try").unwrap(),
            code: SlotName::new("hot").unwrap(),
            entity: String::new(),
            severity: "low".to_owned(),
            state,
            message: message.to_owned(),
            since: Timestamp(1),
            raised: Timestamp(1),
            cleared: None,
            acknowledged: None,
            acknowledged_before: Vec::new(),
            shelved: None,
            comments: Vec::new(),
        }
    }

    #[test]
    fn a_reject_is_told_where_no_reading_tells_it() {
        let of = |outcome: &str, timer: Option<&str>| {
            let run = serde_json::json!({
                "ordinal": 1, "attempt": 1, "kind": "any", "time": "2026-01-01T00:00:00Z", "revision": 1,
                "outcome": outcome, "timer": timer,
            });
            failed(serde_json::from_value(run).unwrap())
        };
        assert!(
            of("ok", Some("daily")).is_none() && of("ok", None).is_none() && of("reject", None).is_none()
        );
        assert!(of("reject", Some("daily")).is_some() && of("trap", None).is_some());
    }

    #[test]
    fn each_transition_between_two_looks_is_found() {
        use AlarmState::{ReturnedUnacknowledged as Over, Unacknowledged as Stands};
        let names = |before: Option<(&str, AlarmState, &str)>, now: (&str, AlarmState, &str)| {
            let before = before.map(|(id, state, message)| alarm(id, state, message));
            let found = changes(before.as_ref(), &alarm(now.0, now.1, now.2));
            found.into_iter().map(|(state, _)| state).collect::<Vec<_>>()
        };
        assert_eq!(names(None, ("1-1", Stands, "a")), ["raised"]);
        assert_eq!(names(None, ("1-1", Over, "a")), ["raised", "cleared"]);
        assert_eq!(names(Some(("1-1", Stands, "a")), ("1-1", Stands, "a")), Vec::<&str>::new());
        assert_eq!(names(Some(("1-1", Stands, "a")), ("1-1", Stands, "b")), ["told"]);
        assert_eq!(names(Some(("1-1", Stands, "a")), ("1-1", Over, "a")), ["cleared"]);
        assert_eq!(names(Some(("1-1", Over, "a")), ("1-2", Stands, "a")), ["raised"]);
        assert_eq!(names(Some(("1-1", Stands, "a")), ("1-2", Stands, "a")), ["cleared", "raised"]);
    }
}
