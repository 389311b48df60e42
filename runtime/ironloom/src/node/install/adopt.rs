//! An install that goes on with a state that was kept.

use super::{New, Node};
use crate::api::facade::{Answer, Place, Problem};
use crate::fold::KnownPackage;
use crate::node::kept::Kept;
use crate::records::admin::{Adopted, NewInstallation};
use crate::records::lane::{LaneMeta, Trouble};
use ironloom_apps::allowance::LimitKind;
use ironloom_apps::manifest::{Manifest, Timer};
use ironloom_apps::plan::Plan;
use ironloom_sandbox::LoadedApp;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{self, Sequence, SlotName, TenantId};
use ironloom_types::work::Gap;

/// Bytes that the installs of one list may adopt together, besides states: they stand in its record.
pub(super) const MOST_BYTES: usize = 16 << 20;

/// The journal and the time as of an adoption.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Timestamp,
    /// The first reading that the journal has, and when it was recorded, about.
    first: Sequence,
    first_time: Timestamp,
}

impl Node {
    pub(super) fn moment(&self, tenant: TenantId) -> Moment {
        let journal = self.shared.journal.of(tenant);
        let (now, first) = (self.shared.clock.now(), journal.first());
        Moment { now, first, first_time: journal.time_about(first).unwrap_or(now) }
    }
}

impl Kept {
    /// The last reading that is dealt with, or past its retention.
    pub(super) fn cursor(&self, first: Sequence) -> Sequence {
        self.meta.cursor.max(Sequence(first.0 - 1))
    }

    /// Warnings to the admin.
    pub(super) fn warnings(&self, plan: &Plan, manifest: &Manifest, first: Sequence) -> Vec<String> {
        let (generation, was) = (self.generation, &self.ended.version);
        let mut warnings = Vec::new();
        if *was != manifest.version {
            let version = &manifest.version;
            warnings.push(format!("version {version} goes on with the state of version {was}"));
        }
        let cursor = self.cursor(first);
        if cursor > self.meta.cursor {
            let from = self.meta.cursor.next();
            warnings.push(format!(
                "readings {from} to {cursor} are past the journal's retention: the app is told that it misses those \
                 that were for it"
            ));
        }
        if !manifest.schedule && !self.timers.is_empty() {
            let (version, count) = (&manifest.version, self.timers.len());
            warnings
                .push(format!("version {version} sets no one-shot timers: {count} that are set are dropped"));
        }
        let (has, limit) = (self.meta.state_bytes, plan.limits.state);
        if has > limit {
            let (has, limit) = (LimitKind::State.show(has), LimitKind::State.show(limit));
            warnings.push(format!(
                "limits.state: generation {generation} has {has}, more than the {limit} from now on; it keeps them and \
                 gets no more"
            ));
        }
        warnings
    }

    /// 422 where the app's code would have to bring the state into its form first: that is done by an upgrade.
    pub(super) fn check_form(&self, known: &KnownPackage, code: &LoadedApp) -> Answer<()> {
        let (was, manifest) = (&self.ended, &known.manifest);
        if was.package == known.record.digest || !code.roles().lifecycle {
            return Ok(());
        }
        let id = &was.id;
        let detail = format!(
            "version {} has a migrate, and the state that is kept of {id} (generation {}) has the form of version {}, \
             package {}: an install doesn't migrate",
            manifest.version, self.generation, was.version, was.package
        );
        Err(Problem::refused("migrate", detail)
            .at(Place::field("package"))
            .hint("Install that package with `adopt` first, and then run `ironloom upgrade` with this one."))
    }

    /// The bookkeeping with which it goes on, and what it takes over besides.
    fn goes_on(
        &self,
        manifest: &Manifest,
        zone: &jiff::tz::TimeZone,
        inputs: &[SlotName],
        moment: Moment,
    ) -> (LaneMeta, Adopted) {
        let Moment { now, first, first_time } = moment;
        let mut meta = self.meta.clone();
        // Nobody can say how many: what they were bound to isn't known any more, nor are they.
        let gap = |slot: &SlotName| Gap {
            slot: slot.clone(),
            first: meta.time.min(first_time),
            last: first_time,
            count: 0,
        };
        let gaps: Vec<Gap> = inputs.iter().map(gap).collect();
        meta.miss(self.cursor(first), &gaps);
        meta.leave_future(now);
        // One that was quarantined is tried again, as where an admin resumes it.
        (meta.trouble, meta.quarantine) = (Trouble::default(), None);
        (meta.last_error, meta.last_timer_error) = (None, None);
        // One that has become due meanwhile runs, once.
        let due = |timer: &Timer| {
            let was = meta.cron_due.iter().find(|(name, due)| *name == timer.name && *due <= now);
            let due = was.map(|(_, due)| *due).or_else(|| timer.cron.next_after(now, zone))?;
            Some((timer.name.clone(), due))
        };
        meta.cron_due = manifest.timers.iter().filter_map(due).collect();
        meta.alarms_standing = 0;
        self.alarms.iter().for_each(|alarm| meta.episodes.add(alarm.cost()));
        let timers = self.timers.iter().map(|(name, set)| (name.clone(), manifest.schedule.then_some(*set)));
        (meta, Adopted { alarms: self.alarms.clone(), timers: timers.collect() })
    }
}

impl New {
    /// Has it go on with a generation that is kept, in a revision that follows its last one.
    pub(super) fn adopt(&mut self, kept: &Kept, manifest: &Manifest, moment: Moment) {
        let NewInstallation { installation, revision, meta, adopted, .. } = &mut self.installation;
        let number = ids::Revision(kept.ended.revision.0 + 1);
        installation.generation = kept.generation;
        (installation.revision, revision.number) = (number, number);
        let (goes_on, takes_over) = kept.goes_on(manifest, &revision.zone(), &self.inputs, moment);
        revision.from = goes_on.cursor.next();
        (*meta, *adopted) = (goes_on, Some(Box::new(takes_over)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::alarm::testing;
    use crate::records::installation::{Installation, Standing};
    use crate::records::lane::Quarantine;
    use ironloom_types::clock::SECOND;
    use ironloom_types::effects::OneShot;
    use ironloom_types::ids::{Digest, Generation, InstallationId};

    const MANIFEST: &str = "manifest = 1\nid = \"com.example.one\"\nname = \"One\"\nversion = \"0.2.0\"\nschedule = true\n\
                            [inputs.value]\ntype = \"real\"\n\
                            [timers]\ndaily = { cron = \"0 6 * * *\" }\nnightly = { cron = \"0 2 * * *\" }\n";

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn slot(name: &str) -> SlotName {
        SlotName::new(name).unwrap()
    }

    fn kept(meta: LaneMeta) -> Kept {
        let manifest = Manifest::parse(MANIFEST).unwrap();
        let ended = Installation {
            id: InstallationId::new(TenantId::MAIN, "one").unwrap(),
            generation: Generation(3),
            begun: Generation(3),
            app: manifest.id,
            version: "0.1.0".to_owned(),
            package: Digest([1; 32]),
            standing: Standing::Paused,
            revision: ids::Revision(4),
            trial: None,
            went_back: None,
            publisher: None,
        };
        let set = OneShot { due: Timestamp(5), asked: Timestamp(5) };
        let alarms = vec![testing::alarm("room", 1, "hot", None)];
        Kept { generation: Generation(3), ended, meta, timers: vec![("egg".into(), set)], alarms }
    }

    fn goes_on(kept: &Kept, manifest: &str, first: u64, now: &str) -> (LaneMeta, Adopted) {
        let manifest = Manifest::parse(manifest).unwrap();
        let now = at(now);
        let first_time = Timestamp(now.0 - SECOND);
        let moment = Moment { now, first: Sequence(first), first_time };
        kept.goes_on(&manifest, &jiff::tz::TimeZone::UTC, &[slot("value")], moment)
    }

    #[test]
    fn it_goes_on_where_it_ended_and_timers_that_became_due_run_once() {
        let meta = LaneMeta {
            cursor: Sequence(40),
            time: at("2026-11-28T12:00:00Z"),
            alarms_standing: 1,
            quarantine: Some(Quarantine { at: Timestamp(1), reason: "too often".to_owned() }),
            cron_due: vec![
                (slot("daily"), at("2026-11-29T06:00:00Z")),
                (slot("gone"), at("2026-11-28T13:00:00Z")),
                (slot("nightly"), at("2026-12-24T02:00:00Z")),
            ],
            ..LaneMeta::default()
        };
        let kept = kept(meta.clone());
        let (on, adopted) = goes_on(&kept, MANIFEST, 41, "2026-11-30T01:00:00Z");
        let due =
            [(slot("daily"), at("2026-11-29T06:00:00Z")), (slot("nightly"), at("2026-11-30T02:00:00Z"))];
        assert_eq!(on.cron_due, due);
        assert_eq!((on.cursor, on.gaps.len(), on.time), (Sequence(40), 0, meta.time));
        assert_eq!((on.quarantine, on.alarms_standing, on.episodes.kept), (None, 0, 1));
        assert_eq!(adopted.timers, [("egg".into(), Some(kept.timers[0].1))]);
        assert_eq!(adopted.alarms, kept.alarms);
        // A version that sets none.
        let without = MANIFEST.replace("schedule = true\n", "");
        assert_eq!(goes_on(&kept, &without, 41, "2026-11-30T01:00:00Z").1.timers, [("egg".into(), None)]);
    }

    #[test]
    fn readings_that_went_meanwhile_are_a_gap() {
        let time = at("2026-11-28T12:00:00Z");
        let meta = LaneMeta { cursor: Sequence(40), time, ..LaneMeta::default() };
        let (on, _) = goes_on(&kept(meta), MANIFEST, 51, "2026-11-30T01:00:00Z");
        let last = at("2026-11-30T00:59:59Z");
        assert_eq!(on.gaps, [Gap { slot: slot("value"), first: time, last, count: 0 }]);
        assert_eq!((on.cursor, on.counters.missed), (Sequence(50), 0));
    }

    #[test]
    fn a_time_from_a_wrong_future_is_left() {
        let time = at("2027-11-28T12:00:00Z");
        let meta = LaneMeta { cursor: Sequence(40), time, ..LaneMeta::default() };
        let (on, _) = goes_on(&kept(meta), MANIFEST, 41, "2026-11-30T01:00:00Z");
        assert_eq!(on.time, at("2026-11-30T01:00:00Z"));
    }
}
