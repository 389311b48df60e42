//! Random histories.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::cut::Cut;
use super::model::{Lane, Reading};
use super::readings_of;
use super::world::World;
use crate::fold::catch_up::Missed;
use crate::fold::routes::PreparedRoutes;
use crate::fold::stretches::Extent;
use crate::fold::submission::{CommitSubmission, Refusal, Submission};
use crate::fold::{Retention, Shared};
use crate::records::admin::{
    AdminRecord, Adopted, CarriedReading, Ended, Expired, FROM_HERE, LaneDue, NewInstallation, PackageRecord,
    PointRenamed, PointSet, PointsRetired, Reset, Revised, StateChanged,
};
use crate::records::alarm::{AlarmRecord, AlarmState, ClearedBy, Note, testing};
use crate::records::commit::{self, CommitHead, DeadLetter, Invocation, InvocationKind, OutcomeKind};
use crate::records::connector::ConnectorRecord;
use crate::records::consent::ConsentRecord;
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::lane::{LaneMeta, Published, Reached};
use crate::records::owner::AppOwner;
use crate::records::readings::{Idempotency, ReadingsHead, Receipt};
use ironloom_apps::binding::{Bindings, InputBinding, Patterns};
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::Prepared;
use ironloom_storage::store::EngineKind;
use ironloom_types::CompiledRef;
use ironloom_types::clock::{SECOND, Timestamp};
use ironloom_types::effects::OneShot;
use ironloom_types::ids::{
    self, AppId, Digest, Generation, InstallationId, Ordinal, PointNumber, PointPath, Sequence, SlotName,
    TenantId,
};
use ironloom_types::limits::Limits;
use ironloom_types::readings::{Columns, NewPoint, Progress, Quality, Value};
use ironloom_types::work::Gap;

/// The public key of the third test of RFC 8032, section 7.1.
const KEY: &str = "ed25519:_FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU";

pub(super) const MANIFEST: &str = r#"
manifest = 1
id = "com.example.any"
name = "Any"
version = "0.1.0"
[inputs.value]
type = "real"
[alarms.hot]
severity = "low"
"#;

/// Another version of the same app: its input has another number, and it has neither alarms nor one-shot timers.
const NEXT: &str = r#"
manifest = 1
id = "com.example.any"
name = "Any"
version = "0.2.0"
[inputs.extra]
type = "text"
optional = true
[inputs.value]
type = "real"
"#;

/// The versions of the app.
const VERSIONS: [&str; 2] = [MANIFEST, NEXT];

/// What an installation can take: first segments of paths.
const TAKES: [&[&str]; 4] = [&["a"], &["a", "b"], &["d"], &["b", "d"]];

#[derive(Clone, Debug)]
pub(super) struct Row {
    pub path: u8,
    pub value: Value,
    pub at: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Push {
        rows: Vec<Row>,
        key: Option<(u8, u8)>,
        receipt: Option<u8>,
    },
    MakePoints {
        lane: Option<u8>,
        paths: Vec<u8>,
    },
    Lane(LaneStep),
    CommitOfOneThatIsGone,
    Install {
        list: Vec<ToInstall>,
    },
    Uninstall {
        lane: u8,
        purge: bool,
    },
    PurgeKept {
        which: u8,
    },
    Adopt {
        which: u8,
        takes: u8,
        version: u8,
    },
    Pause {
        lane: u8,
        pause: bool,
    },
    Revise {
        lane: u8,
        takes: u8,
        version: Option<u8>,
        at_cursor: bool,
        in_flight: Vec<Row>,
    },
    RemovePackage {
        version: u8,
    },
    SetConnector {
        name: u8,
        table: Option<u8>,
        stopped: bool,
    },
    RemoveConnector {
        name: u8,
    },
    AskConsent {
        lane: u8,
        version: u8,
    },
    RefuseConsent {
        lane: u8,
    },
    Reset {
        lane: u8,
        from_start: bool,
    },
    Copy {
        lane: u8,
    },
    GoOnCopying {
        cut: Option<(usize, usize)>,
    },
    EndCopy {
        which: u8,
        cut: Option<(usize, usize)>,
    },
    RollBack {
        which: u8,
    },
    /// A copy goes, since it is one beyond the quota.
    DropCopy {
        which: u8,
    },
    Repair {
        lane: u8,
        key: u8,
        value: Option<u16>,
    },
    SetPoint {
        which: u8,
        unit: bool,
        description: bool,
    },
    RetirePoint {
        which: u8,
        readings: bool,
        in_flight: Vec<Row>,
    },
    RenamePoint {
        which: u8,
        to: u8,
        in_flight: Vec<Row>,
    },
    Acknowledge {
        lane: u8,
        entity: u8,
    },
    DeleteLetter {
        lane: u8,
        number: u64,
    },
    Drop {
        keep: u64,
    },
    Expire {
        lane: u8,
        invocations: Option<u64>,
        episodes: Option<u64>,
        letters: Option<u64>,
    },
    Tick {
        by: u64,
    },
    SetTime {
        back: u64,
        due: u64,
    },
    Pump,
    EndStretch,
    Freeze {
        extent: Extent,
    },
    Checkpoint {
        cut: Option<(usize, usize)>,
    },
    Purge {
        which: u8,
        cut: Option<(usize, usize)>,
    },
    Restart,
}

/// One of a list of installs.
#[derive(Clone, Debug)]
pub(super) struct ToInstall {
    slot: u8,
    version: u8,
    takes: u8,
    from_start: bool,
}

#[derive(Clone, Debug)]
pub(super) struct LaneStep {
    lane: u8,
    rows: usize,
    failed: bool,
    held: bool,
    state: BTreeMap<u8, Option<u16>>,
    timers: BTreeMap<u8, Option<u64>>,
    alarms: BTreeMap<u8, u8>,
    letters: u8,
    letters_gone: Vec<u64>,
    derived: Vec<Row>,
    hops: u8,
    cron: Option<u64>,
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => (-1e9..1e9).prop_map(Value::Real),
        2 => any::<i64>().prop_map(Value::Integer),
        1 => any::<bool>().prop_map(Value::Boolean),
        1 => Just(Value::Missing),
        1 => "[a-z]{0,5}".prop_map(|text| Value::Text(text.into())),
        1 => "[a-z]{80,90}".prop_map(|text| Value::Text(text.into())),
    ]
}

fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    let at = prop_oneof![20 => 0..100u64, 1 => 0..9 * 3600u64];
    prop::collection::vec(
        (0..12u8, value(), at).prop_map(|(path, value, at)| Row { path, value, at }),
        0..most,
    )
}

fn lane_step() -> impl Strategy<Value = Step> {
    let flags = (any::<u8>(), 0..12usize, prop::bool::weighted(0.2), any::<bool>());
    let state = prop::collection::btree_map(0..10u8, prop::option::weighted(0.7, 0..300u16), 0..6);
    let timers = prop::collection::btree_map(0..4u8, prop::option::of(0..1000u64), 0..3);
    let alarms = prop::collection::btree_map(0..4u8, 0..5u8, 0..3);
    let letters = (0..3u8, prop::collection::vec(0..8u64, 0..2));
    let derived = (rows(4), prop_oneof![4 => 1..3u8, 1 => 15..19u8], prop::option::of(0..1000u64));
    (flags, state, timers, alarms, letters, derived).prop_map(
        |(flags, state, timers, alarms, letters, derived)| {
            let (lane, rows, failed, held) = flags;
            let (letters, letters_gone) = letters;
            let (derived, hops, cron) = derived;
            let (timers, alarms) = (timers, alarms);
            Step::Lane(LaneStep {
                lane,
                rows,
                failed,
                held,
                state,
                timers,
                alarms,
                letters,
                letters_gone,
                derived,
                hops,
                cron,
            })
        },
    )
}

fn to_install() -> impl Strategy<Value = ToInstall> {
    (0..3u8, 0..2u8, 0..4u8, any::<bool>()).prop_map(|(slot, version, takes, from_start)| ToInstall {
        slot,
        version,
        takes,
        from_start,
    })
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let key = prop::option::weighted(0.4, (0..5u8, 0..2u8));
    prop_oneof![
        12 => (rows(8), key, prop::option::weighted(0.3, any::<u8>())).prop_map(|(rows, key, receipt)| Step::Push { rows, key, receipt }),
        2 => (prop::option::of(any::<u8>()), prop::collection::vec(0..12u8, 1..4)).prop_map(|(lane, paths)| Step::MakePoints { lane, paths }),
        12 => lane_step(),
        1 => Just(Step::CommitOfOneThatIsGone),
        3 => prop::collection::vec(to_install(), 1..4).prop_map(|list| Step::Install { list }),
        2 => (any::<u8>(), prop::bool::weighted(0.3)).prop_map(|(lane, purge)| Step::Uninstall { lane, purge }),
        4 => (any::<u8>(), 0..4u8, 0..2u8).prop_map(|(which, takes, version)| Step::Adopt { which, takes, version }),
        1 => any::<u8>().prop_map(|which| Step::PurgeKept { which }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(lane, pause)| Step::Pause { lane, pause }),
        3 => (any::<u8>(), 0..4u8, prop::option::of(0..2u8), prop::bool::weighted(0.3), rows(4)).prop_map(
            |(lane, takes, version, at_cursor, in_flight)| Step::Revise { lane, takes, version, at_cursor, in_flight }
        ),
        1 => (0..2u8).prop_map(|version| Step::RemovePackage { version }),
        2 => (0..3u8, prop::option::of(0..9u8), any::<bool>())
            .prop_map(|(name, table, stopped)| Step::SetConnector { name, table, stopped }),
        1 => (0..3u8).prop_map(|name| Step::RemoveConnector { name }),
        2 => (any::<u8>(), 0..2u8).prop_map(|(lane, version)| Step::AskConsent { lane, version }),
        1 => any::<u8>().prop_map(|lane| Step::RefuseConsent { lane }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(lane, from_start)| Step::Reset { lane, from_start }),
        3 => any::<u8>().prop_map(|lane| Step::Copy { lane }),
        6 => prop::option::weighted(0.1, (0..2usize, 0..4usize)).prop_map(|cut| Step::GoOnCopying { cut }),
        4 => (any::<u8>(), prop::option::weighted(0.1, (0..3usize, 0..4usize)))
            .prop_map(|(which, cut)| Step::EndCopy { which, cut }),
        2 => any::<u8>().prop_map(|which| Step::RollBack { which }),
        1 => any::<u8>().prop_map(|which| Step::DropCopy { which }),
        2 => (any::<u8>(), 0..10u8, prop::option::weighted(0.7, 0..300u16))
            .prop_map(|(lane, key, value)| Step::Repair { lane, key, value }),
        1 => (any::<u8>(), any::<bool>(), any::<bool>())
            .prop_map(|(which, unit, description)| Step::SetPoint { which, unit, description }),
        2 => (any::<u8>(), any::<bool>(), rows(4))
            .prop_map(|(which, readings, in_flight)| Step::RetirePoint { which, readings, in_flight }),
        2 => (any::<u8>(), 0..12u8, rows(4)).prop_map(|(which, to, in_flight)| Step::RenamePoint { which, to, in_flight }),
        1 => (any::<u8>(), 0..4u8).prop_map(|(lane, entity)| Step::Acknowledge { lane, entity }),
        1 => (any::<u8>(), 0..6u64).prop_map(|(lane, number)| Step::DeleteLetter { lane, number }),
        2 => (0..200u64).prop_map(|keep| Step::Drop { keep }),
        2 => (any::<u8>(), prop::option::of(0..200u64), prop::option::of(0..6u64), prop::option::of(0..9u64)).prop_map(
            |(lane, invocations, episodes, letters)| Step::Expire { lane, invocations, episodes, letters }
        ),
        1 => (0..1000u64).prop_map(|by| Step::Tick { by }),
        1 => (0..5000u64, 0..1000u64).prop_map(|(back, due)| Step::SetTime { back, due }),
        3 => Just(Step::Pump),
        3 => Just(Step::EndStretch),
        1 => Just(Step::Freeze { extent: Extent::All }),
        3 => Just(Step::Freeze { extent: Extent::Oldest }),
        2 => Just(Step::Checkpoint { cut: None }),
        3 => (0..3usize, 0..40usize).prop_map(|cut| Step::Checkpoint { cut: Some(cut) }),
        1 => (any::<u8>(), prop::option::of((0..3usize, 0..40usize))).prop_map(|(which, cut)| Step::Purge { which, cut }),
        1 => Just(Step::Restart),
    ]
}

pub(super) fn key(number: u8) -> String {
    // A common beginning, for the front-coding.
    format!("animal/{}/ä{number}", number / 3)
}

/// Paths of points that come by pushes.
fn source_path(number: u8) -> String {
    let first = ["a", "b", "c"][usize::from(number % 3)];
    format!("{first}/{first}{}", number / 3)
}

fn time_of(row: &Row, now: u64) -> u64 {
    // Some are late, which changes no order.
    (now + row.at * SECOND).saturating_sub(50 * SECOND)
}

/// Rows as they are submitted, and as the model sees them.
pub(super) fn prepare(
    world: &mut World,
    rows: &[Row],
    path: impl Fn(u8) -> String,
) -> (Vec<NewPoint>, Columns, Vec<Reading>) {
    let (shared, now) = (world.shared(), world.model.time);
    let (mut new, mut columns, mut readings) = (Vec::new(), Columns::default(), Vec::new());
    for row in rows {
        let path = path(row.path);
        let number = shared.points.names().find(TenantId::MAIN, &path).unwrap_or_else(|| {
            let known = new.iter().position(|point: &NewPoint| point.path.as_str() == path);
            PointNumber::pending(known.unwrap_or_else(|| {
                new.push(NewPoint { path: PointPath::new(TenantId::MAIN, &path).unwrap(), unit: None });
                new.len() - 1
            }))
        });
        let quality = if row.value == Value::Missing { Quality::Bad } else { Quality::Good };
        let at = time_of(row, now);
        columns.push(number, Timestamp(at), quality, row.value.as_ref());
        readings.push(Reading { path, at, quality, value: row.value.clone(), time: 0, hops: 0, origin: 0 });
    }
    (new, columns, readings)
}

impl World {
    pub(super) fn run(&mut self, step: &Step) {
        match step {
            Step::Push { rows, key, receipt } => self.push(rows, *key, *receipt),
            Step::MakePoints { lane, paths } => self.make_points(*lane, paths),
            Step::Lane(step) => self.lane(step),
            Step::CommitOfOneThatIsGone => self.commit_of_gone(),
            Step::Install { list } => {
                let one =
                    |one: &ToInstall| (one.slot, one.version, TAKES[usize::from(one.takes)], one.from_start);
                self.install_all(&list.iter().map(one).collect::<Vec<_>>());
            }
            Step::Uninstall { lane, purge } => self.uninstall(*lane, *purge),
            Step::PurgeKept { which } => self.purge_kept(*which),
            Step::Adopt { which, takes, version } => self.adopt(*which, TAKES[usize::from(*takes)], *version),
            Step::Pause { lane, pause } => self.pause(*lane, *pause),
            Step::Revise { lane, takes, version, at_cursor, in_flight } => {
                self.revise(*lane, TAKES[usize::from(*takes)], *version, *at_cursor, in_flight);
            }
            Step::RemovePackage { version } => self.remove_package(*version),
            Step::SetConnector { name, table, stopped } => self.set_connector(*name, *table, *stopped),
            Step::RemoveConnector { name } => self.remove_connector(*name),
            Step::AskConsent { lane, version } => self.ask_consent(*lane, *version),
            Step::RefuseConsent { lane } => self.refuse_consent(*lane),
            Step::Reset { lane, from_start } => self.reset(*lane, *from_start),
            Step::Copy { lane } => self.begin_copy(*lane),
            Step::GoOnCopying { cut } => {
                self.copy_step(cut.map(|(applies, changes)| Cut { applies, changes }));
            }
            Step::EndCopy { which, cut } => {
                self.end_copy(*which, cut.map(|(applies, changes)| Cut { applies, changes }));
            }
            Step::RollBack { which } => self.roll_back(*which),
            Step::DropCopy { which } => self.drop_copy(*which),
            Step::Repair { lane, key, value } => self.repair(*lane, *key, *value),
            Step::SetPoint { which, unit, description } => self.set_point(*which, *unit, *description),
            Step::RetirePoint { which, readings, in_flight } => {
                self.retire_point(*which, *readings, in_flight);
            }
            Step::RenamePoint { which, to, in_flight } => self.rename_point(*which, *to, in_flight),
            Step::Acknowledge { lane, entity } => self.acknowledge(*lane, *entity),
            Step::DeleteLetter { lane, number } => self.delete_letter(*lane, *number),
            Step::Drop { keep } => self.drop_older_than(*keep),
            Step::Expire { lane, invocations, episodes, letters } => {
                self.expire(*lane, *invocations, *episodes, *letters);
            }
            Step::Tick { by } => {
                self.model.time += by * SECOND;
                let at = Timestamp(self.model.time);
                self.submit(Submission::Tick(at));
            }
            Step::SetTime { back, due } => self.set_time(*back, *due),
            Step::Pump => self.pump(),
            Step::EndStretch => self.end_stretch(),
            Step::Freeze { extent } => self.freeze(*extent),
            Step::Checkpoint { cut } => {
                self.checkpoint(cut.map(|(applies, changes)| Cut { applies, changes }));
            }
            Step::Purge { which, cut } => {
                self.purge(*which, cut.map(|(applies, changes)| Cut { applies, changes }));
            }
            Step::Restart => self.restart(),
        }
        if self.is_simulated() {
            // Each operation of the disk then belongs to one step.
            self.pump();
        }
    }

    pub(super) fn push(&mut self, rows: &[Row], key: Option<(u8, u8)>, receipt: Option<u8>) {
        let receipt = receipt.map(|note| match note % 3 {
            2 => {
                let progress = Progress { lines: u64::from(note), ..Progress::default() };
                let key = format!("stream-{}", note % 2).into();
                Receipt::Stream { key, progress: (note % 5 > 0).then_some(progress) }
            }
            name => Receipt::Connector { name: format!("connector-{name}").into(), note: vec![note; 3] },
        });
        // The place of a stream may stand alone.
        let is_stream = matches!(receipt, Some(Receipt::Stream { .. })) && key.is_none();
        if rows.is_empty() && !is_stream {
            return;
        }
        let (new_points, columns, readings) = prepare(self, rows, source_path);
        let head = ReadingsHead {
            receipt: receipt.clone(),
            idempotency: key.map(|(key, request)| Idempotency { key: [key; 16], request: [request; 16] }),
        };
        let expected = self.model.push(readings, key, receipt);
        let (item, answer) = readings_of(head, new_points, columns, None);
        self.submit(item);
        self.expect_push(answer, expected);
    }

    /// Time goes back, and all timers are due anew.
    pub(super) fn set_time(&mut self, back: u64, due: u64) {
        // No invocation runs meanwhile.
        self.pump();
        let to = self.model.time.saturating_sub(back * SECOND);
        self.model.time = to;
        self.model.streams.values_mut().for_each(|(_, at)| *at = (*at).min(to));
        let due = Timestamp(to + due * SECOND);
        let mut moved = Vec::new();
        for (generation, lane) in &mut self.model.lanes {
            lane.meta.time = lane.meta.time.min(Timestamp(to));
            lane.timers.values_mut().for_each(|(at, asked)| (*at, *asked) = (due.0, due.0.min(*asked)));
            lane.meta.cron_due.iter_mut().for_each(|timer| timer.1 = due);
            let timers = lane.timers.keys().map(|name| (name.as_str().into(), due));
            moved.push(LaneDue {
                generation: Generation(*generation),
                cron: lane.meta.cron_due.clone(),
                timers: timers.collect(),
            });
        }
        self.admin(AdminRecord::TimeSet { to: Timestamp(to), due: moved }, Ok(()));
    }

    /// Drops blocks of which all readings are older than so many seconds, after the lanes that wait for them were
    /// moved on.
    pub(super) fn drop_older_than(&mut self, keep: u64) {
        // No invocation of these lanes runs meanwhile.
        self.pump();
        let shared = self.shared();
        let before = Some(Timestamp(self.model.time.saturating_sub(keep * SECOND)));
        let due = shared.journal.due_to_go(Retention { before, max_bytes: None });
        let Some((tenant, before)) = due.iter().next() else { return };
        assert_eq!(tenant, TenantId::MAIN);
        let lanes = shared.lanes.all();
        let waiting = lanes.iter().filter_map(|lane| {
            let first = lane.queue.lock().pending().filter(|first| *first < before)?;
            Some((lane.number, first))
        });
        let missed = shared.missed(tenant, &waiting.collect(), before).unwrap();
        let missed = missed.into_iter().map(|(number, by_input)| {
            let (slots, missed): (Vec<_>, Vec<_>) = by_input.into_iter().unzip();
            assert_eq!(slots, [SlotName::new("value").unwrap()]);
            (shared.lanes.get(number).unwrap().generation.0, missed[0])
        });
        let missed: BTreeMap<u64, Missed> = missed.collect();
        let expected = self.model.drop_before(before.0);
        let seen = |gap: &Gap| Missed { first: gap.first, last: gap.last, count: gap.count };
        assert_eq!(missed, expected.iter().map(|(generation, gap)| (*generation, seen(gap))).collect());
        for (generation, gap) in expected {
            let id = InstallationId::new(TenantId::MAIN, &self.model.lanes[&generation].id).unwrap();
            let (generation, through) = (Generation(generation), Sequence(before.0 - 1));
            self.admin(AdminRecord::Missed { id, generation, through, gaps: vec![gap] }, Ok(()));
        }
        self.admin(AdminRecord::Dropped { tenant: TenantId::MAIN, before }, Ok(()));
        self.pump();
    }

    /// Of a lane's history goes what is older than these: invocations of more seconds ago; episodes and dead letters,
    /// whose times are their numbers, with lower ones.
    pub(super) fn expire(
        &mut self,
        lane: u8,
        invocations: Option<u64>,
        episodes: Option<u64>,
        letters: Option<u64>,
    ) {
        let Some(generation) = self.choose(lane) else { return };
        let (shared, now) = (self.shared(), self.model.time);
        let durable = shared.lanes.of_generation(Generation(generation)).unwrap();
        let invocations_gone_before = self.model.lanes[&generation].meta.invocations_gone;
        if let Some(keep) = invocations {
            let before = now.saturating_sub(keep * SECOND);
            let expected = self.model.expire_invocations(generation, before);
            let found = shared.old_invocations(&durable, Timestamp(before)).unwrap();
            assert_eq!(
                (found.parts.0, found.next.map(|next| next.0), found.more),
                (expected.0, expected.1, false)
            );
        }
        let (mut alarms, mut episodes_gone) = (Vec::new(), Vec::new());
        if let Some(before) = episodes {
            let (over, normal) = self.model.expire_episodes(generation, before);
            let found = shared.old_episodes(&durable, Timestamp(before)).unwrap();
            let places: BTreeSet<_> = found.parts.over.iter().map(|one| one.place).collect();
            assert_eq!(places, over.iter().map(AlarmRecord::place).collect());
            let shelved: BTreeSet<_> = found.parts.shelved.iter().map(AlarmRecord::place).collect();
            assert_eq!(shelved, normal.iter().map(AlarmRecord::place).collect());
            episodes_gone = over.iter().chain(&normal).map(AlarmRecord::place).collect();
            alarms = normal;
        }
        let mut dead_letters_gone = Vec::new();
        if let Some(before) = letters {
            dead_letters_gone = self.model.expire_letters(generation, before);
            let found = shared.old_letters(Generation(generation), Timestamp(before)).unwrap();
            assert_eq!(found.parts.iter().map(|one| one.number).collect::<Vec<_>>(), dead_letters_gone);
            let next = self.model.lanes[&generation].dead_letters.keys().next();
            assert_eq!(found.next.map(|next| next.0), next.copied());
        }
        let lane = &self.model.lanes[&generation];
        let expired = Expired {
            id: InstallationId::new(TenantId::MAIN, &lane.id).unwrap(),
            generation: Generation(generation),
            invocations_gone_before,
            alarms,
            episodes_gone,
            dead_letters_gone,
            meta: lane.meta.clone(),
        };
        self.admin(AdminRecord::Expired(Box::new(expired)), Ok(()));
    }

    pub(super) fn choose(&mut self, lane: u8) -> Option<u64> {
        // An admin waits for the lane's turn, and so for its commit.
        self.pump();
        let live: Vec<u64> = self.model.lanes.keys().copied().collect();
        (!live.is_empty()).then(|| live[usize::from(lane) % live.len()])
    }

    pub(super) fn install(&mut self, slot: u8, takes: &[&'static str], from_start: bool) {
        self.install_all(&[(slot, 0, takes, from_start)]);
    }

    /// Sends the package of a version, unless it is there.
    pub(super) fn add_package(&mut self, version: u8) {
        let manifest = VERSIONS[usize::from(version)];
        if !self.model.packages.insert(Digest::of(manifest.as_bytes())) {
            return;
        }
        let digest = Digest::of(manifest.as_bytes());
        let record = PackageRecord {
            digest,
            manifest: manifest.to_owned(),
            file: digest,
            signers: Vec::new(),
            imports: Vec::new(),
            sdk_version: None,
            compiled: CompiledRef { wasm: digest, engine: digest, code: digest },
        };
        self.admin(AdminRecord::PackageAdded { tenant: TenantId::MAIN, package: Box::new(record) }, Ok(()));
    }

    /// Removes the package of a version, unless an installation has it or readings wait for it.
    fn remove_package(&mut self, version: u8) {
        self.pump();
        let package = Digest::of(VERSIONS[usize::from(version)].as_bytes());
        let is_used = self.shared().lanes.all().iter().any(|lane| lane.packages().contains(&package));
        if !is_used && self.model.packages.remove(&package) {
            self.admin(AdminRecord::PackageRemoved(package), Ok(()));
        }
    }

    /// Installs these in one record, but for those whose id is given already.
    fn install_all(&mut self, list: &[(u8, u8, &[&'static str], bool)]) {
        list.iter().for_each(|(_, version, ..)| self.add_package(*version));
        let shared = self.shared();
        let (mut records, mut routes) = (Vec::new(), BTreeMap::new());
        for (slot, version, takes, from_start) in list {
            let id = format!("lane-{slot}");
            if self.model.lanes.values().any(|lane| lane.id == id) {
                continue;
            }
            self.model.generation += 1;
            let generation = self.model.generation;
            let cursor = if *from_start { Sequence(0) } else { shared.journal.of(TenantId::MAIN).last() };
            let meta = LaneMeta { cursor, next_dead_letter: 1, ..LaneMeta::default() };
            let record = new_installation(&id, generation, *version, takes, meta.clone());
            if *from_start {
                // What was submitted before is applied later.
                routes.insert(Generation(generation), prepared(&shared, &record.revision.bindings.inputs));
            }
            records.push(record);
            let lane = Lane {
                id,
                version: *version,
                revisions: vec![(1, cursor.0 + 1, takes.to_vec())],
                first_revision: 1,
                meta,
                standing: Standing::Running,
                state: BTreeMap::new(),
                timers: BTreeMap::new(),
                alarms: BTreeMap::new(),
                dead_letters: BTreeMap::new(),
                invocations: Default::default(),
            };
            self.model.lanes.insert(generation, lane);
        }
        if !routes.is_empty() {
            shared.keep_routes(routes);
        }
        if !records.is_empty() {
            self.admin(AdminRecord::Installed(records), Ok(()));
        }
    }

    pub(super) fn uninstall(&mut self, lane: u8, purge: bool) {
        let Some(generation) = self.choose(lane) else { return };
        let at = Timestamp(u64::MAX / 2);
        let ended = Box::new(self.ended(generation));
        let gone = self.model.uninstall(generation, at, purge);
        self.model.drop_copies(&gone.id);
        let record = AdminRecord::Uninstalled { ended, at, purge };
        self.admin(record.clone(), Ok(()));
        self.admin(record, Err(Refusal::Gone));
    }

    /// A generation as it ends.
    pub(super) fn ended(&self, generation: u64) -> Ended {
        let lane = self.shared().lanes.of_generation(Generation(generation)).unwrap();
        let meta = self.model.lanes[&generation].meta.clone();
        Ended { installation: Installation::clone(&lane.installation()), meta }
    }

    /// An installation goes on with what a generation has kept whose id is free.
    pub(super) fn adopt(&mut self, which: u8, takes: &[&'static str], version: u8) {
        self.pump();
        let is_free = |id: &String| self.model.lanes.values().all(|lane| lane.id != *id);
        let free: Vec<u64> =
            self.model.kept.iter().filter(|(_, id)| is_free(id)).map(|(kept, _)| *kept).collect();
        if free.is_empty() {
            return;
        }
        self.add_package(version);
        self.pump();
        let generation = free[usize::from(which) % free.len()];
        let shared = self.shared();
        let gone = shared.removed.lock()[&Generation(generation)].clone();
        let kept = shared.kept_timers(Generation(generation)).unwrap();
        let named: BTreeMap<String, (u64, u64)> =
            kept.iter().map(|(name, set)| (name.to_string(), (set.due.0, set.asked.0))).collect();
        assert_eq!(named, self.model.ended[&generation].timers);
        let alarms = shared.kept_alarms(Generation(generation), &gone).unwrap();
        assert_eq!(alarms, self.model.ended_alarms(generation));
        let timers = kept.into_iter().map(|(name, set)| (name, (version == 0).then_some(set))).collect();

        self.model.generation += 1;
        let begun = Generation(self.model.generation);
        let lane = self.model.adopt(generation, takes, version);
        let new = new_installation(&lane.id, generation, version, takes, lane.meta.clone());
        let mut new = numbered(new, begun, ids::Revision(lane.revisions[0].0));
        new.adopted = Some(Box::new(Adopted { alarms, timers }));
        let id = new.installation.id.clone();
        let routes = prepared(&shared, &new.revision.bindings.inputs);
        shared.keep_routes(BTreeMap::from([(Generation(generation), routes)]));
        let record = AdminRecord::Installed(vec![new]);
        self.admin(record.clone(), Ok(()));
        self.admin(record, Err(Refusal::Exists(id)));
    }

    /// A new generation of an installation, with nothing in its state.
    pub(super) fn reset(&mut self, lane: u8, from_start: bool) {
        let Some(before) = self.choose(lane) else { return };
        let shared = self.shared();
        let cursor = if from_start { Sequence(0) } else { shared.journal.of(TenantId::MAIN).last() };
        let at = Timestamp(u64::MAX / 2);
        let ended = self.ended(before);
        let gone = self.model.end(before, (at, ClearedBy::Reset), false);
        self.model.drop_copies(&gone.id);
        self.model.generation += 1;
        let generation = self.model.generation;
        let reached = Reached { sequence: Sequence(1), time: Timestamp(0) };
        let meta = LaneMeta {
            cursor,
            next_dead_letter: 1,
            began: reached,
            published: Some(Published { after: reached, through: reached }),
            ..LaneMeta::default()
        };
        let (number, _, takes) = gone.revisions.last().unwrap().clone();
        let new = new_installation(&gone.id, generation, gone.version, &takes, meta.clone());
        let number = ids::Revision(number + 1);
        let mut new = numbered(new, Generation(generation), number);
        new.installation.standing = gone.standing;
        self.model.lanes.insert(
            generation,
            Lane {
                revisions: vec![(number.0, cursor.0 + 1, takes)],
                first_revision: number.0,
                meta,
                state: BTreeMap::new(),
                timers: BTreeMap::new(),
                alarms: BTreeMap::new(),
                dead_letters: BTreeMap::new(),
                invocations: Default::default(),
                ..gone
            },
        );
        let reset = AdminRecord::Reset(Box::new(Reset { ended, at, new }));
        self.admin(reset.clone(), Ok(()));
        self.admin(reset, Err(Refusal::GenerationTaken(Generation(generation))));
    }

    /// What a generation that is gone has kept is to go, with its points where no other has or keeps them.
    fn purge_kept(&mut self, which: u8) {
        self.pump();
        let kept: Vec<u64> = self.model.kept.keys().copied().collect();
        if kept.is_empty() {
            return;
        }
        let generation = kept[usize::from(which) % kept.len()];
        let (id, points) = self.model.purge_kept(generation);
        let id = InstallationId::new(TenantId::MAIN, &id).unwrap();
        self.admin(AdminRecord::Purged { id, generations: vec![Generation(generation)], points }, Ok(()));
    }

    fn pause(&mut self, lane: u8, pause: bool) {
        let Some(generation) = self.choose(lane) else { return };
        let lane = self.model.lanes.get_mut(&generation).unwrap();
        lane.standing = if pause { Standing::Paused } else { Standing::Running };
        lane.meta.trouble.retries += 1;
        let record = AdminRecord::Standing {
            id: InstallationId::new(TenantId::MAIN, &lane.id).unwrap(),
            generation: Generation(generation),
            standing: lane.standing,
            meta: Box::new(lane.meta.clone()),
        };
        self.admin(record, Ok(()));
    }

    /// A revision that takes something else, perhaps, or has another version of the app. Readings may be on their way
    /// when an admin decides.
    fn revise(
        &mut self,
        lane: u8,
        takes: &[&'static str],
        version: Option<u8>,
        at_cursor: bool,
        in_flight: &[Row],
    ) {
        let Some(generation) = self.choose(lane) else { return };
        let version = version.unwrap_or(self.model.lanes[&generation].version);
        self.add_package(version);
        let shared = self.shared();
        let durable = shared.lanes.of_generation(Generation(generation)).unwrap();
        let pending =
            durable.queue.lock().pending().unwrap_or(shared.journal.of(TenantId::MAIN).last().next());
        self.push(in_flight, None, None);
        let from = if at_cursor { pending } else { FROM_HERE };
        let begins = if at_cursor { pending.0 } else { self.model.journal.len() as u64 + 1 };
        let (alarms, timers) = match version {
            1 => self.model.end_holdings(generation),
            _ => Default::default(),
        };
        let lane = self.model.lanes.get_mut(&generation).unwrap();
        let number = ids::Revision(lane.revise(begins, takes));
        // Its code brings the state into its form.
        let state: Vec<(Box<str>, Option<Vec<u8>>)> = match version != lane.version {
            true => vec![(key(1).into(), None), (key(2).into(), Some(vec![version; 7]))],
            false => Vec::new(),
        };
        for (key, value) in &state {
            match value {
                Some(value) => lane.state.insert(key.to_string(), Bytes::from(value.clone())),
                None => lane.state.remove(&**key),
            };
        }
        lane.version = version;
        lane.meta.trouble.retries += 1;
        let new = new_installation(&lane.id, generation, version, takes, lane.meta.clone());
        let new = numbered(new, durable.installation().begun, number);
        let NewInstallation { installation, revision, meta, .. } = new;
        let revised = Revised {
            installation: Installation { standing: lane.standing, ..installation },
            revision: Revision { from, ..revision },
            meta,
            alarms,
            timers,
            state,
            owner: owner(generation, number),
        };
        self.refuse_without_copy(revised.clone());
        self.admin(AdminRecord::Revised(Box::new(revised)), Ok(()));
    }

    /// Somebody sets a key of an app's state, or deletes it.
    fn repair(&mut self, lane: u8, number: u8, value: Option<u16>) {
        let Some(generation) = self.choose(lane) else { return };
        let lane = self.model.lanes.get_mut(&generation).unwrap();
        let value = value.map(|length| vec![number; usize::from(length)]);
        match &value {
            Some(value) => lane.state.insert(key(number), value.clone().into()),
            None => lane.state.remove(&key(number)),
        };
        lane.meta.state_bytes = lane.state.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum();
        let repaired = *lane.meta.repaired.get_or_insert(lane.meta.ordinal);
        let changed = StateChanged {
            id: InstallationId::new(TenantId::MAIN, &lane.id).unwrap(),
            generation: Generation(generation),
            key: key(number).into(),
            value,
            bytes: lane.meta.state_bytes,
            repaired,
        };
        self.admin(AdminRecord::StateChanged(Box::new(changed)), Ok(()));
    }

    /// Somebody adds a connector, or changes what there is of one.
    fn set_connector(&mut self, name: u8, table: Option<u8>, stopped: bool) {
        self.pump();
        let name: Box<str> = format!("connector-{name}").into();
        let table: Option<Box<str>> = table.map(|table| format!("{{\"a\":{table}}}").into());
        let connector = ConnectorRecord { name: name.clone(), table: table.clone(), stopped };
        if table.is_some() || stopped {
            self.model.connectors.insert(name, connector.clone());
        } else {
            self.model.connectors.remove(&name);
        }
        self.admin(AdminRecord::ConnectorSet(Box::new(connector)), Ok(()));
    }

    /// An upgrade of an installation waits for consent.
    fn ask_consent(&mut self, which: u8, version: u8) {
        self.pump();
        let Some(id) = self.id_of(which) else { return };
        let package = Digest::of(VERSIONS[usize::from(version)].as_bytes());
        let (version, before) = (version.to_string().into(), "0".into());
        let (request, wider, consent) = ("{}".into(), vec!["raises alarms".into()], package);
        let asked = Timestamp(self.model.time);
        let app = AppId::new("com.example.one").unwrap();
        let publisher = None;
        let record =
            ConsentRecord { id, request, package, version, before, wider, consent, asked, app, publisher };
        self.admin(AdminRecord::ConsentAsked(Box::new(record)), Ok(()));
    }

    fn refuse_consent(&mut self, which: u8) {
        self.pump();
        let Some(id) = self.id_of(which) else { return };
        self.admin(AdminRecord::ConsentRefused { id }, Ok(()));
    }

    /// The id of one of the installations.
    fn id_of(&self, which: u8) -> Option<InstallationId> {
        let lanes = &self.model.lanes;
        let lane = lanes.values().nth(usize::from(which) % lanes.len().max(1))?;
        Some(InstallationId::new(TenantId::MAIN, &lane.id).unwrap())
    }

    fn remove_connector(&mut self, name: u8) {
        self.pump();
        let name: Box<str> = format!("connector-{name}").into();
        self.model.connectors.remove(&name);
        self.model.receipts.remove(&*name);
        self.admin(AdminRecord::ConnectorRemoved { name }, Ok(()));
    }

    /// Somebody says what a point is.
    fn set_point(&mut self, which: u8, unit: bool, description: bool) {
        self.pump();
        let there: Vec<usize> =
            (0..self.model.points.len()).filter(|at| self.model.points[*at].is_some()).collect();
        if there.is_empty() {
            return;
        }
        let number = there[usize::from(which) % there.len()];
        let unit = unit.then(|| "kg".to_owned());
        let description = description.then(|| format!("point {which}"));
        let set = PointSet {
            number: PointNumber(number as u32),
            unit: unit.as_deref().map(Arc::from),
            description: description.as_deref().map(Box::from),
        };
        self.model.said.insert(number, (unit, description));
        self.admin(AdminRecord::PointSet(Box::new(set)), Ok(()));
    }

    /// A point that nobody waits for is retired, or one that was retired before loses its readings.
    fn retire_point(&mut self, which: u8, readings: bool, in_flight: &[Row]) {
        self.pump();
        let is_known = |at: &usize| self.model.points[*at].is_some() || self.model.retired.contains_key(at);
        let known: Vec<usize> = (0..self.model.points.len()).filter(is_known).collect();
        if known.is_empty() {
            return;
        }
        let number = known[usize::from(which) % known.len()];
        if self.model.is_waited_for(number) {
            return;
        }
        let mut made = Vec::new();
        let path = self.model.points[number].clone();
        let readings = readings && path.is_some();
        for (generation, lane) in &mut self.model.lanes {
            if path.as_ref().is_some_and(|path| path.starts_with(&format!("apps/{}/", lane.id))) {
                lane.meta.points = lane.meta.points.saturating_sub(1);
                made.push((Generation(*generation), lane.meta.points));
            }
        }
        self.model.retire(number, readings);
        let numbers = vec![PointNumber(number as u32)];
        self.admin(AdminRecord::PointsRetired(PointsRetired { numbers, readings, made }), Ok(()));
        self.push_by_paths(in_flight);
    }

    /// A point of a source goes on under another path; what comes right behind it, for the old path too, isn't flushed
    /// with it.
    fn rename_point(&mut self, which: u8, to: u8, in_flight: &[Row]) {
        self.pump();
        let is_of_source =
            |at: &usize| self.model.points[*at].as_ref().is_some_and(|path| !path.starts_with("apps/"));
        let there: Vec<usize> = (0..self.model.points.len()).filter(is_of_source).collect();
        let path = source_path(to);
        let is_taken = self.model.points.contains(&Some(path.clone()));
        if there.is_empty() {
            return;
        }
        let from = there[usize::from(which) % there.len()];
        if self.model.is_waited_for(from) {
            return;
        }
        let (unit, description) = self.model.said.get(&from).cloned().unwrap_or_default();
        let latest = self.model.latest_of(from).map(|(sequence, reading)| CarriedReading {
            sequence: Sequence(sequence),
            at: Timestamp(reading.at),
            quality: reading.quality,
            value: reading.value.clone(),
        });
        let of_path = |retired: &&usize| self.model.retired.get(*retired) == self.model.points[from].as_ref();
        let earlier: Vec<usize> = self.model.retired.keys().filter(of_path).copied().collect();
        let renamed = PointRenamed {
            from: PointNumber(from as u32),
            earlier: earlier.iter().map(|number| PointNumber(*number as u32)).collect(),
            number: PointNumber(0),
            path: PointPath::new(TenantId::MAIN, &path).unwrap(),
            unit: unit.as_deref().map(Arc::from),
            description: description.as_deref().map(Box::from),
            latest,
        };
        let record = AdminRecord::PointRenamed(Box::new(renamed));
        if is_taken {
            let before = self.model.time_of_record;
            self.admin(record, Err(Refusal::PointExists(PointPath::new(TenantId::MAIN, &path).unwrap())));
            self.model.time_of_record = before;
            return;
        }
        self.model.rename(from, &earlier, &path);
        self.admin(record, Ok(()));
        self.push_by_paths(in_flight);
    }

    /// Pushes readings right behind what was submitted. None has a number yet: with one of before it would come to another
    /// point.
    fn push_by_paths(&mut self, rows: &[Row]) {
        let (_, _, readings) = prepare(self, rows, source_path);
        let (mut new_points, mut columns) = (Vec::<NewPoint>::new(), Columns::default());
        for Reading { path, at, quality, value, .. } in &readings {
            let known = new_points.iter().position(|point| point.path.as_str() == path);
            let index = known.unwrap_or_else(|| {
                new_points.push(NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: None });
                new_points.len() - 1
            });
            columns.push(PointNumber::pending(index), Timestamp(*at), *quality, value.as_ref());
        }
        if !readings.is_empty() {
            let expected = self.model.push(readings, None, None);
            let (item, answer) = readings_of(ReadingsHead::default(), new_points, columns, None);
            self.submit(item);
            self.expect_push(answer, expected);
        }
        self.pump();
    }

    fn acknowledge(&mut self, lane: u8, entity: u8) {
        let Some(generation) = self.choose(lane) else { return };
        let lane = self.model.lanes.get_mut(&generation).unwrap();
        let entity = entity.to_string();
        let Some(alarm) = lane.alarms.get_mut(&entity) else { return };
        alarm.acknowledged.push(Note { at: Timestamp(7), by: None, comment: Some("seen".into()) });
        alarm.state = if alarm.state.stands() { AlarmState::Acknowledged } else { AlarmState::Normal };
        alarm.over = alarm.state == AlarmState::Normal;
        let (alarm, episodes) = (Box::new(alarm.clone()), lane.meta.episodes);
        if alarm.over {
            lane.alarms.remove(&entity);
            self.model.episodes.entry(generation).or_default().insert(alarm.number, (*alarm).clone());
        }
        self.admin(AdminRecord::Alarm { generation: Generation(generation), alarm, episodes }, Ok(()));
    }

    fn delete_letter(&mut self, lane: u8, number: u64) {
        let Some(generation) = self.choose(lane) else { return };
        let lane = self.model.lanes.get_mut(&generation).unwrap();
        lane.dead_letters.remove(&number);
        lane.meta.dead_letters_kept = lane.dead_letters.len() as u64;
        lane.meta.dead_letter_bytes = lane.dead_letters.values().map(DeadLetter::cost).sum();
        let (kept, bytes) = (lane.meta.dead_letters_kept, lane.meta.dead_letter_bytes);
        let generation = Generation(generation);
        self.admin(AdminRecord::DeadLetterDeleted { generation, number, kept, bytes }, Ok(()));
    }

    fn commit_of_gone(&mut self) {
        let Some(&generation) = self.model.removed.first() else { return };
        let head = head(generation, "lane-0", &LaneMeta::default());
        self.commit(
            head,
            commit::StateChanges::default(),
            Vec::new(),
            Columns::default(),
            Err(Refusal::Gone),
        );
    }

    pub(super) fn commit(
        &mut self,
        head: CommitHead,
        state: commit::StateChanges,
        new_points: Vec<NewPoint>,
        derived: Columns,
        expected: Result<(), Refusal>,
    ) {
        let mut encoded = Vec::new();
        commit::encode_effects(&head, &state, &mut encoded);
        let (reply, durable) = oneshot::channel();
        self.submit(Submission::Commit(Box::new(CommitSubmission {
            head,
            state,
            encoded,
            new_points,
            derived,
            place: None,
            reply,
        })));
        self.expect(durable, expected);
    }

    /// A commit that deals with so many of a lane's readings and sets these timers.
    pub(super) fn commit_of(&mut self, lane: u8, rows: usize, timers: &[(u8, u64)]) {
        self.lane(&LaneStep {
            lane,
            rows,
            failed: false,
            held: false,
            state: BTreeMap::new(),
            timers: timers.iter().map(|(name, due)| (*name, Some(*due))).collect(),
            alarms: BTreeMap::new(),
            letters: 0,
            letters_gone: Vec::new(),
            derived: Vec::new(),
            hops: 1,
            cron: None,
        });
        self.pump();
    }

    /// A commit that publishes a reading of an output that is bound to nothing else.
    pub(super) fn commit_publishing(&mut self, lane: u8) {
        self.lane(&LaneStep {
            lane,
            rows: 1,
            failed: false,
            held: false,
            state: BTreeMap::new(),
            timers: BTreeMap::new(),
            alarms: BTreeMap::new(),
            letters: 0,
            letters_gone: Vec::new(),
            derived: vec![Row { path: 5, value: Value::Real(1.0), at: 50 }],
            hops: 1,
            cron: None,
        });
        self.pump();
    }

    /// A commit that leaves something of each kind behind.
    pub(super) fn commit_something(&mut self) {
        self.lane(&LaneStep {
            lane: 0,
            rows: 1,
            failed: false,
            held: false,
            state: BTreeMap::from([(1, Some(10)), (2, Some(20))]),
            timers: BTreeMap::from([(1, Some(5))]),
            alarms: BTreeMap::from([(1, 0)]),
            letters: 1,
            letters_gone: Vec::new(),
            derived: Vec::new(),
            hops: 1,
            cron: None,
        });
        self.pump();
    }

    /// A commit of a lane that sets so many keys, the same as before.
    pub(super) fn commit_keys(&mut self, generation: u64, count: usize) {
        self.commit_keys_from(generation, 0..count);
    }

    /// A commit of a lane that sets the keys with these numbers.
    pub(super) fn commit_keys_from(&mut self, generation: u64, numbers: Range<usize>) {
        let lane = self.model.lanes.get_mut(&generation).unwrap();
        lane.meta.time = Timestamp(self.model.time);
        lane.meta.attempts = 1;
        let mut head = head(generation, &lane.id, &lane.meta);
        lane.invocations.insert((head.invocation.ordinal.0, 1), lane.meta.time.0);
        lane.meta.ordinal = head.invocation.ordinal;
        lane.meta.attempts = 0;
        head.meta = lane.meta.clone();
        let value = Bytes::from_static(b"x");
        let keys = numbers.map(|key| (format!("key-{key:06}"), Some(value.clone())));
        let state: commit::StateChanges = keys.collect();
        lane.state.extend(state.keys().map(|key| (key.to_owned(), value.clone())));
        self.commit(head, state, Vec::new(), Columns::default(), Ok(()));
        self.pump();
    }

    /// The first lane's last invocation comes once more.
    pub(super) fn commit_again(&mut self, refusal: Refusal) {
        let lane = &self.model.lanes[&1];
        let before = LaneMeta { ordinal: Ordinal(lane.meta.ordinal.0 - 1), attempts: 1, ..lane.meta.clone() };
        let head = head(1, &lane.id, &before);
        self.commit(head, commit::StateChanges::default(), Vec::new(), Columns::default(), Err(refusal));
        self.pump();
    }

    fn lane(&mut self, step: &LaneStep) {
        let Some(generation) = self.choose(step.lane) else { return };
        self.catch_up(generation);
        let offered = self.offered(generation, step.rows.max(1));
        assert_eq!(offered, self.model.offered(generation, step.rows.max(1)), "generation {generation}");

        let (origin, id) = (generation, self.model.lanes[&generation].id.clone());
        let derived = if step.failed { &[][..] } else { &step.derived };
        let (new_points, columns, mut readings) = prepare(self, derived, |number| match number % 8 {
            shared @ 0..4 => format!("d/d{shared}"),
            own => format!("apps/{id}/out/{own}"),
        });
        for reading in &mut readings {
            (reading.hops, reading.origin) = (step.hops, origin);
        }
        let lane = self.model.lanes.get_mut(&generation).unwrap();
        lane.meta.time = Timestamp(self.model.time);
        if step.failed {
            lane.meta.attempts += 1;
            let mut head = head(generation, &lane.id, &lane.meta);
            head.invocation.outcome = OutcomeKind::Trap;
            lane.invocations.insert((head.invocation.ordinal.0, head.invocation.attempt), lane.meta.time.0);
            self.model.time_of_record = self.model.time;
            self.commit(head, commit::StateChanges::default(), Vec::new(), Columns::default(), Ok(()));
            return;
        }
        lane.meta.attempts += 1;
        let mut head = head(generation, &lane.id, &lane.meta);
        lane.invocations.insert((head.invocation.ordinal.0, head.invocation.attempt), lane.meta.time.0);
        lane.meta.ordinal = head.invocation.ordinal;
        lane.meta.attempts = 0;
        lane.meta.cursor = offered.last().map_or(lane.meta.cursor, |last| Sequence(*last));
        lane.meta.cron_due =
            step.cron.map(|due| (SlotName::new("daily").unwrap(), Timestamp(due))).into_iter().collect();
        let mut state = commit::StateChanges::default();
        for (number, value) in &step.state {
            let value = value.map(|length| Bytes::from(vec![*number; usize::from(length)]));
            match &value {
                Some(value) => lane.state.insert(key(*number), value.clone()),
                None => lane.state.remove(&key(*number)),
            };
            state.push(&key(*number), value.as_deref());
        }
        for (name, due) in &step.timers {
            let name = format!("timer-{name}");
            match due {
                Some(due) => lane.timers.insert(name.clone(), (*due, *due / 2)),
                None => lane.timers.remove(&name),
            };
            let set = |due: u64| OneShot { due: Timestamp(due), asked: Timestamp(due / 2) };
            head.timers.push((name.into(), due.map(set)));
        }
        for (entity, state) in &step.alarms {
            let current = lane.alarms.get(&entity.to_string()).map(|alarm| alarm.number);
            let number = current.unwrap_or(lane.meta.next_alarm.max(1));
            lane.meta.next_alarm = lane.meta.next_alarm.max(number + 1);
            let (alarm, entity) = (alarm(*entity, number, *state), entity.to_string());
            if alarm.over {
                lane.alarms.remove(&entity);
                self.model.episodes.entry(generation).or_default().insert(alarm.number, alarm.clone());
            } else {
                lane.alarms.insert(entity, alarm.clone());
            }
            head.alarms.push(alarm);
        }
        for _ in 0..step.letters {
            let letter = letter(lane.meta.next_dead_letter);
            lane.meta.next_dead_letter += 1;
            lane.dead_letters.insert(letter.number, letter.clone());
            head.dead_letters.push(letter);
        }
        for number in step
            .letters_gone
            .iter()
            .filter(|number| **number < lane.meta.next_dead_letter - u64::from(step.letters))
        {
            lane.dead_letters.remove(number);
            head.dead_letters_gone.push(*number);
        }
        head.meta = lane.meta.clone();
        head.hops = step.hops;
        self.model.derive(readings);
        self.commit(head, state, new_points, columns, Ok(()));
        if !step.held {
            self.pump();
            self.catch_up(generation);
        }
    }
}

/// Routes as of the points that there are.
pub(super) fn prepared(shared: &Shared, inputs: &[InputBinding]) -> PreparedRoutes {
    let changes = shared.routing.read().changes();
    let mut routes = Prepared::new(inputs);
    let names = shared.points.names();
    for (number, point) in names.iter_from(PointNumber(0)) {
        routes.add(number, &point.path, point.unit.as_deref());
    }
    routes.skip_to(PointNumber(names.given() as u32));
    PreparedRoutes { routes, changes }
}

/// An install that begins at the journal's start.
pub(super) fn installed(id: &str, generation: u64, takes: &[&'static str]) -> AdminRecord {
    let meta = LaneMeta { next_dead_letter: 1, ..LaneMeta::default() };
    AdminRecord::Installed(vec![new_installation(id, generation, 0, takes, meta)])
}

/// An installation ends that has done nothing.
pub(super) fn uninstalled(id: &str, generation: u64, at: Timestamp, purge: bool) -> AdminRecord {
    let NewInstallation { installation, meta, .. } =
        new_installation(id, generation, 0, &["a"], LaneMeta { next_alarm: 100, ..LaneMeta::default() });
    AdminRecord::Uninstalled { ended: Box::new(Ended { installation, meta }), at, purge }
}

/// An install that goes on with a generation which had no alarms and no timers.
pub(super) fn adopting(id: &str, generation: u64, begun: u64) -> AdminRecord {
    let new = new_installation(id, generation, 0, &["a"], LaneMeta::default());
    let mut new = numbered(new, Generation(begun), ids::Revision(2));
    new.adopted = Some(Box::new(Adopted { alarms: Vec::new(), timers: Vec::new() }));
    AdminRecord::Installed(vec![new])
}

/// The same under other numbers.
pub(super) fn numbered(
    mut new: NewInstallation,
    begun: Generation,
    number: ids::Revision,
) -> NewInstallation {
    (new.installation.begun, new.installation.revision) = (begun, number);
    (new.revision.begun, new.revision.number) = (begun, number);
    new
}

pub(super) fn new_installation(
    id: &str,
    generation: u64,
    version: u8,
    takes: &[&'static str],
    meta: LaneMeta,
) -> NewInstallation {
    let text = VERSIONS[usize::from(version)];
    let (manifest, package) = (Manifest::parse(text).unwrap(), Digest::of(text.as_bytes()));
    let patterns = takes.iter().map(|first| format!("{first}/{{n}}")).collect();
    let installation_id = InstallationId::new(TenantId::MAIN, id).unwrap();
    let asked = BTreeMap::from([(SlotName::new("value").unwrap(), Patterns::Many(patterns))]);
    let bindings = Bindings::new(&manifest, &installation_id, &asked).unwrap();
    let installation = Installation {
        id: installation_id,
        generation: Generation(generation),
        begun: Generation(generation),
        app: manifest.id,
        version: manifest.version,
        package,
        standing: Standing::Running,
        revision: ids::Revision(1),
        trial: None,
        went_back: None,
        publisher: None,
    };
    let revision = Revision {
        number: ids::Revision(1),
        begun: Generation(generation),
        from: meta.cursor.next(),
        package,
        bindings: Arc::new(bindings),
        grants: Default::default(),
        settings: Arc::default(),
        limits: Limits::default(),
        timezone: "UTC".to_owned(),
        keep_up: false,
    };
    let owner = owner(generation, ids::Revision(1));
    NewInstallation { installation, revision, meta, adopted: None, owner }
}

/// Some installs and upgrades say whose the app is.
fn owner(generation: u64, revision: ids::Revision) -> Option<Box<AppOwner>> {
    let app = AppId::new("com.example.app").unwrap();
    let key = (revision.0 % 2 == 1).then(|| KEY.parse().unwrap());
    let owner = AppOwner { tenant: TenantId::MAIN, app, key, catalog: None, since: Timestamp(generation) };
    (!generation.is_multiple_of(3)).then(|| Box::new(owner))
}

pub(super) fn head(generation: u64, id: &str, meta: &LaneMeta) -> CommitHead {
    CommitHead {
        installation: InstallationId::new(TenantId::MAIN, id).unwrap(),
        generation: Generation(generation),
        invocation: Invocation {
            ordinal: meta.ordinal.next(),
            attempt: meta.attempts,
            kind: InvocationKind::Readings,
            first: Sequence(0),
            last: Sequence(0),
            readings: 0,
            time: meta.time,
            revision: ids::Revision(1),
            outcome: OutcomeKind::Ok,
            message: None,
            digest: Digest([0; 32]),
        },
        meta: meta.clone(),
        timers: Vec::new(),
        alarms: Vec::new(),
        episodes_gone: Vec::new(),
        dead_letters: Vec::new(),
        dead_letters_gone: Vec::new(),
        hops: 0,
        intents: Vec::new(),
    }
}

fn alarm(entity: u8, number: u64, state: u8) -> AlarmRecord {
    let states = [
        AlarmState::Unacknowledged,
        AlarmState::Acknowledged,
        AlarmState::ReturnedToNormal,
        AlarmState::Normal,
        AlarmState::Normal,
    ];
    // The last is kept, as for a shelf.
    let over = state == 3;
    let state = states[usize::from(state)];
    let entity = entity.to_string();
    // Old ones go by this time.
    let raised = Timestamp(number);
    AlarmRecord { state, over, raised, ..testing::alarm(&entity, number, "hot", None) }
}

pub(super) fn letter(number: u64) -> DeadLetter {
    DeadLetter {
        number,
        input: SlotName::new("value").unwrap(),
        entity: "1".into(),
        point: PointNumber(0),
        sequence: Sequence(1),
        time: Timestamp(number),
        at: Timestamp(1),
        quality: Quality::Good,
        value: Value::Integer(number as i64),
        conversion: None,
        unit: None,
        reason: "refused: no".into(),
        by_trap: false,
        ordinal: Ordinal(1),
        revision: ids::Revision(1),
    }
}

fn run(mut world: World, steps: &[Step]) {
    world.install(0, &["a"], false);
    world.pump();
    for step in steps {
        world.run(step);
    }
    world.check();
    world.drain();
    world.restart();
    world.drain();
    // What is in the store alone is as good.
    world.checkpoint(None);
    world.restart();
    world.drain();
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 300, ..ironloom_mutate::cases(48) })]

    #[test]
    fn a_history_with_restarts_and_checkpoints_is_kept_as_it_was(steps in prop::collection::vec(step(), 1..60)) {
        run(World::new(EngineKind::Redb), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 100, ..ironloom_mutate::cases(12) })]

    #[test]
    fn and_so_it_is_on_sled(steps in prop::collection::vec(step(), 1..60)) {
        run(World::new(EngineKind::Sled), &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 1_000, ..ironloom_mutate::cases(256) })]

    #[test]
    fn and_so_it_is_on_disks_that_lose_whatever_was_not_synced(
        seed in any::<u64>(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(World::simulated(seed), &steps);
    }
}
