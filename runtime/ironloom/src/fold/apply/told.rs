//! Events of what a record says. Told only of new records, and without waiting.

use super::Applier;
use crate::fold::durable::Durable;
use crate::records::admin::{AdminRecord, Reset, Revised};
use crate::records::alarm::AlarmRecord;
use crate::records::commit::CommitHead;
use crate::records::consent::ConsentRecord;
use crate::records::copy::RolledBack;
use crate::records::installation::Standing;
use crate::records::lane::Trouble;
use crate::records::owner::AppOwner;
use crate::records::token::TokenChange;
use crate::telemetry::events::What;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Digest, Generation, InstallationId, PointNumber};

/// Episodes of one invocation that are told one by one.
const ALARMS: usize = 100;

impl Applier {
    /// Tells what an invocation did; `lane` as it is before.
    pub(super) fn tell_commit(&self, lane: &Durable, head: &CommitHead) {
        if self.replaying {
            return;
        }
        let events = &self.shared.metrics.events;
        let was_catching_up = lane.book().meta().is_catching_up();
        // What was told by an earlier generation isn't told again; what stands in the end is.
        let told = if head.meta.is_catching_up() { &[][..] } else { &head.alarms };
        if was_catching_up && !head.meta.is_catching_up() {
            self.tell_standing(lane, head);
        }
        for alarm in told.iter().take(ALARMS) {
            let before = lane.book().alarm_numbered(alarm.number).cloned();
            let changes = changes(before.as_ref(), alarm, head.invocation.time);
            changes.into_iter().for_each(|change| {
                events.tell(of_alarm(&head.installation, head.generation, alarm, change));
            });
        }
        self.tell_more(&head.installation, told.len().saturating_sub(ALARMS));
        let installation = || head.installation.clone();
        if !head.dead_letters.is_empty() {
            let count = head.dead_letters.len() as u64;
            events.tell_sparingly(What::DeadLetters { installation: installation(), count });
        }
        let (was, is_in_trouble) = {
            let book = lane.book();
            (book.meta().quarantine.is_some(), is_in_trouble(&book.meta().trouble))
        };
        match &head.meta.quarantine {
            Some(quarantine) if !was => events.tell(What::Installation {
                installation: installation(),
                state: "quarantined",
                reason: Some(quarantine.reason.clone()),
            }),
            Some(_) => {}
            None => match (is_in_trouble, self::is_in_trouble(&head.meta.trouble)) {
                (false, true) => events.tell_sparingly(What::Installation {
                    installation: installation(),
                    state: "waiting",
                    reason: head.invocation.message.as_deref().map(str::to_owned),
                }),
                (true, false) => events.tell_sparingly(What::Installation {
                    installation: installation(),
                    state: "running",
                    reason: None,
                }),
                _ => {}
            },
        }
    }

    /// Tells what an admin changed, before it is applied.
    pub(super) fn tell_admin(&self, record: &AdminRecord) {
        if self.replaying {
            return;
        }
        let events = &self.shared.metrics.events;
        let stands = |installation: &InstallationId, state| {
            events.tell(What::Installation { installation: installation.clone(), state, reason: None });
        };
        let of_connector = |name: &str, state: &str| {
            let (connector, state) = (name.to_owned(), state.to_owned());
            events.tell(What::Connector { connector, part: None, state, error: None });
        };
        match record {
            AdminRecord::Installed(new) => new.iter().for_each(|new| {
                stands(&new.installation.id, "installed");
                self.tell_owner(new.owner.as_deref());
            }),
            AdminRecord::Standing { id, standing: Standing::Paused, .. } => stands(id, "paused"),
            AdminRecord::Standing { id, standing: Standing::Running, .. } => stands(id, "running"),
            AdminRecord::Revised(revised) => self.tell_revised(revised),
            AdminRecord::Reset(reset) => self.tell_reset(reset),
            AdminRecord::Committed(committed) => stands(&committed.id, "committed"),
            AdminRecord::RolledBack(rolled_back) => self.tell_rolled_back(rolled_back),
            AdminRecord::Uninstalled { ended, .. } => stands(&ended.installation.id, "uninstalled"),
            AdminRecord::PointSet(set) => self.tell_points(&[set.number], "set"),
            AdminRecord::PointsRetired(retired) => self.tell_points(&retired.numbers, "retired"),
            AdminRecord::PointRenamed(renamed) => self.tell_points(&[renamed.from], "renamed"),
            AdminRecord::StateChanged(changed) => events.tell(What::State {
                installation: changed.id.clone(),
                key: changed.key.to_string(),
                change: if changed.value.is_some() { "set" } else { "deleted" },
            }),
            AdminRecord::PackageAdded { package, .. } => self.tell_package(package.digest, "added"),
            AdminRecord::PackageRemoved(package) => self.tell_package(*package, "removed"),
            AdminRecord::TimeSet { .. } => events.tell(What::Clock { state: "set-back" }),
            AdminRecord::ConnectorSet(set) => of_connector(&set.name, "set"),
            AdminRecord::ConnectorRemoved { name } => of_connector(name, "removed"),
            AdminRecord::CatalogSet(set) => {
                let change = if set.source.is_some() { "set" } else { "removed" };
                events.tell(What::Catalog { catalog: set.name.to_string(), change });
            }
            AdminRecord::CatalogRemoved { name } => {
                events.tell(What::Catalog { catalog: name.to_string(), change: "removed" });
            }
            AdminRecord::Token(change) => {
                let (name, change) = match change {
                    TokenChange::Made(made) => (&made.name, "made"),
                    TokenChange::Removed(name) => (name, "removed"),
                };
                events.tell(What::Token { token: name.to_string(), change });
            }
            AdminRecord::ConsentAsked(asked) => self.tell_consent(asked),
            AdminRecord::ConsentRefused { id } => stands(id, "consent-refused"),
            AdminRecord::Alarm { generation, alarm, .. } => {
                let Some(lane) = self.shared.lanes.of_generation(*generation) else { return };
                let before = lane.book().alarm_numbered(alarm.number).cloned();
                let changes = match &before {
                    Some(_) => changes(before.as_ref(), alarm, self.shared.clock.last()),
                    // One of the history: its last comment, or that it is acknowledged by now.
                    None => vec![of_old(alarm)],
                };
                for change in changes {
                    events.tell(of_alarm(&lane.id, *generation, alarm, change));
                }
            }
            _ => {}
        }
    }

    fn tell_package(&self, package: Digest, change: &'static str) {
        self.shared.metrics.events.tell(What::Package { package, change });
    }

    /// Tells what somebody did with points.
    fn tell_points(&self, numbers: &[PointNumber], change: &'static str) {
        let names = self.shared.points.names();
        let first = numbers.first().and_then(|first| names.path_of_reading(*first)).map(ToString::to_string);
        drop(names);
        let (count, point) = (numbers.len(), first.unwrap_or_default());
        self.shared.metrics.events.tell(What::Points { point, count, change });
    }

    /// Tells that an upgrade waits for consent, and what it asks for.
    fn tell_consent(&self, asked: &ConsentRecord) {
        let (installation, state) = (asked.id.clone(), "asks-consent");
        let reason = Some(format!("version {}: {}", asked.version, asked.wider.join("; ")));
        self.shared.metrics.events.tell(What::Installation { installation, state, reason });
    }

    /// Tells that an app id which belonged to a key belongs to another one.
    fn tell_owner(&self, owner: Option<&AppOwner>) {
        let Some(owner) = owner else { return };
        let before =
            self.shared.owners.read().get(&(owner.tenant, owner.app.clone())).and_then(|before| before.key);
        if let (Some(from), Some(to)) = (before, owner.key)
            && from != to
        {
            let (app, from, to) = (owner.app.clone(), from.to_string(), to.to_string());
            self.shared.metrics.events.tell(What::Owner { app, from, to });
        }
    }

    fn tell_revised(&self, Revised { installation, alarms, owner, .. }: &Revised) {
        self.tell_owner(owner.as_deref());
        let Some(lane) = self.shared.lanes.of_generation(installation.generation) else { return };
        let events = &self.shared.metrics.events;
        let was = lane.installation();
        let (state, reason) = match was.package == installation.package {
            true => ("set", None),
            false => ("upgraded", Some(format!("from version {} to {}", was.version, installation.version))),
        };
        events.tell(What::Installation { installation: lane.id.clone(), state, reason });
        let stood = |alarm: &AlarmRecord| {
            lane.book().alarm_numbered(alarm.number).is_some_and(|before| before.state.stands())
        };
        self.tell_all(&lane, Told::of(alarms.iter(), stood), "cleared");
    }

    fn tell_rolled_back(&self, RolledBack { ended, new, .. }: &RolledBack) {
        let (was, is) = (&ended.installation.version, &new.installation.version);
        let went_back = new.installation.went_back.as_ref();
        let why = went_back
            .and_then(|went_back| went_back.reason.as_deref())
            .map_or_else(String::new, |reason| format!(": {reason}"));
        self.shared.metrics.events.tell(What::Installation {
            installation: new.installation.id.clone(),
            state: "rolled-back",
            reason: Some(format!("from version {was} to {is}{why}")),
        });
        let Some(lane) = self.shared.lanes.of_generation(ended.installation.generation) else { return };
        let told = Told::of(lane.book().alarms().values(), |alarm| alarm.state.stands());
        self.tell_all(&lane, told, "cleared");
    }

    fn tell_reset(&self, Reset { ended, new, .. }: &Reset) {
        let (installation, state, reason) = (new.installation.id.clone(), "reset", None);
        self.shared.metrics.events.tell(What::Installation { installation, state, reason });
        let Some(lane) = self.shared.lanes.of_generation(ended.installation.generation) else { return };
        let told = Told::of(lane.book().alarms().values(), |alarm| alarm.state.stands());
        self.tell_all(&lane, told, "cleared");
    }

    /// Tells the alarms that stand where an app has caught up, but for those that the record at hand changes.
    fn tell_standing(&self, lane: &Durable, head: &CommitHead) {
        let is_new = |alarm: &AlarmRecord| head.alarms.iter().all(|changed| changed.number != alarm.number);
        let told = Told::of(lane.book().alarms().values(), |alarm| alarm.state.stands() && is_new(alarm));
        self.tell_all(lane, told, "raised");
    }

    /// The same of several alarms.
    fn tell_all(&self, lane: &Durable, told: Told, change: &'static str) {
        let events = &self.shared.metrics.events;
        for alarm in &told.first {
            events.tell(of_alarm(&lane.id, lane.generation, alarm, change));
        }
        self.tell_more(&lane.id, told.more);
    }

    /// Tells how many alarms more than those that were told one by one.
    fn tell_more(&self, installation: &InstallationId, changes: usize) {
        if changes > 0 {
            let installation = installation.clone();
            self.shared.metrics.events.tell(What::Alarms { installation, changes });
        }
    }
}

/// Alarms to be told: no lock is held meanwhile.
struct Told {
    first: Vec<AlarmRecord>,
    more: usize,
}

impl Told {
    fn of<'a>(alarms: impl Iterator<Item = &'a AlarmRecord>, which: impl Fn(&AlarmRecord) -> bool) -> Self {
        let mut alarms = alarms.filter(|alarm| which(alarm));
        let first = alarms.by_ref().take(ALARMS).cloned().collect();
        Self { first, more: alarms.count() }
    }
}

fn is_in_trouble(trouble: &Trouble) -> bool {
    trouble.attempts > 0 || trouble.retries > 0
}

fn of_old(alarm: &AlarmRecord) -> &'static str {
    let comment = alarm.comments.last().map(|note| note.at);
    let acknowledged = alarm.acknowledged.last().map(|note| note.at);
    if comment > acknowledged { "commented" } else { "acknowledged" }
}

/// The change of an episode by a record.
fn changes(before: Option<&AlarmRecord>, now: &AlarmRecord, time: Timestamp) -> Vec<&'static str> {
    let Some(before) = before else {
        let cleared = now.cleared.map(|_| "cleared");
        return std::iter::once("raised").chain(cleared).collect();
    };
    let all = [
        (before.cleared != now.cleared, "cleared"),
        (before.acknowledged != now.acknowledged, "acknowledged"),
        // Its end is told where it has come.
        (before.shelved != now.shelved && now.is_shelved(time), "shelved"),
        (before.comments != now.comments, "commented"),
    ];
    all.into_iter().filter(|(changed, _)| *changed).map(|(_, change)| change).collect()
}

/// An event of an alarm.
pub(crate) fn of_alarm(
    installation: &InstallationId,
    generation: Generation,
    alarm: &AlarmRecord,
    change: &'static str,
) -> What {
    What::Alarm {
        installation: installation.clone(),
        alarm: format!("{generation}-{}", alarm.number),
        change,
        code: alarm.code.clone(),
        entity: alarm.entity.to_string(),
        severity: alarm.severity.name(),
        message: alarm.message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::alarm::{Note, Shelved, testing};

    #[test]
    fn each_change_of_an_episode_is_told() {
        let (active, over) = (testing::alarm("a", 1, "hot", None), testing::alarm("a", 1, "hot", Some(5)));
        let note = Note { at: Timestamp(7), by: None, comment: None };
        let told = |before: Option<&AlarmRecord>, now: &AlarmRecord| changes(before, now, Timestamp(10));
        assert_eq!(told(None, &active), ["raised"]);
        assert_eq!(told(None, &over), ["raised", "cleared"]);
        assert_eq!(told(Some(&active), &over), ["cleared"]);
        assert_eq!(told(Some(&active), &active), Vec::<&str>::new());
        let acknowledged = AlarmRecord { acknowledged: vec![note.clone()], ..active.clone() };
        assert_eq!(told(Some(&active), &acknowledged), ["acknowledged"]);
        let shelved = |until| AlarmRecord {
            shelved: Some(Shelved { note: note.clone(), until: Timestamp(until) }),
            ..active.clone()
        };
        assert_eq!(told(Some(&active), &shelved(11)), ["shelved"]);
        assert_eq!(told(Some(&shelved(11)), &shelved(10)), Vec::<&str>::new(), "told where it has ended");
        let commented = AlarmRecord { comments: vec![note.clone()], ..active.clone() };
        assert_eq!(told(Some(&active), &commented), ["commented"]);
        assert_eq!((of_old(&commented), of_old(&acknowledged)), ("commented", "acknowledged"));
    }
}
