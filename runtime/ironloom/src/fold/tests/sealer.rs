//! What the sealer lets into the log, and what the fold makes of a log that holds more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use tokio::sync::oneshot;

use ironloom_storage::log::{RecordRef, Seal, Sealer as _};
use ironloom_storage::store::EngineKind;
use ironloom_trust::audit::Heads;
use ironloom_types::clock::{Clock, Source, Timestamp};
use ironloom_types::ids::{
    Generation, InstallationId, LastGenerations, LastSequences, Ordinal, PointNumber, PointPath, Position,
    Sequence, TenantId,
};
use ironloom_types::limits::{MAX_POINTS, SOURCE_POINTS};
use ironloom_types::readings::{Columns, NewPoint, Quality, Value, ValueRef};

use super::history::{Row, Step, adopting, head, installed, uninstalled};
use super::readings_of;
use super::world::World;
use crate::fold::apply::Applier;
use crate::fold::points::Points;
use crate::fold::requests::Recent;
use crate::fold::sealer::{Living, Numberer, Numbers, Sealed, Stamped};
use crate::fold::submission::{
    Accepted, AdminSubmission, CommitSubmission, LookSubmission, Refusal, Submission,
};
use crate::records::admin::AdminRecord;
use crate::records::lane::LaneMeta;
use crate::records::readings::{Idempotency, ReadingsHead};
use crate::telemetry::{Seconds, Telemetry};

fn id(text: &str) -> InstallationId {
    InstallationId::new(TenantId::MAIN, text).unwrap()
}

#[test]
fn an_install_whose_id_or_generation_lives_is_refused_and_the_folder_opens_again() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    // The client hung up and asks again before the first record was applied.
    world.admin(installed("lane-0", 2, &["a"]), Err(Refusal::Exists(id("lane-0"))));
    world.admin(installed("lane-1", 1, &["a"]), Err(Refusal::GenerationTaken(Generation(1))));
    world.check();
    world.install(1, &["b"], true);
    world.uninstall(0, false);
    // The id is free again, a generation never is.
    world.admin(installed("lane-0", 1, &["a"]), Err(Refusal::GenerationTaken(Generation(1))));
    world.install(0, &["a"], true);
    world.restart();
    world.drain();
}

#[test]
fn a_retired_point_comes_again_under_a_number_of_its_own() {
    let mut world = World::new(EngineKind::Redb);
    let push = Step::Push {
        rows: vec![Row { path: 0, value: Value::Integer(1), at: 50 }],
        key: None,
        receipt: None,
    };
    let retire = Step::RetirePoint { which: 0, readings: true, in_flight: Vec::new() };
    for step in [&push, &retire, &push] {
        world.run(step);
    }
    world.pump();
    assert_eq!(world.shared().points.names().given(), 2);
    world.check();
    world.restart();
    world.drain();
}

#[test]
fn a_log_that_installs_twice_is_applied_once() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.pump();
    let shared = world.shared();
    let mut applier = Applier::new(Arc::clone(&shared));
    let time = shared.clock.now();
    for record in [installed("lane-0", 2, &["b"]), installed("lane-1", 1, &["b"])] {
        let sealed = Sealed::Admin { record, reply: None };
        applier.apply(None::<RecordRef>, Stamped { time, sealed, entry: None });
    }
    assert_eq!(shared.lanes.all().len(), 1);
    world.check();
}

#[test]
fn an_invocation_is_committed_once() {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    world.commit_something();
    world.commit_again(Refusal::OutOfTurn { ordinal: Ordinal(1), attempt: 1 });
    world.restart();
    world.commit_again(Refusal::OutOfTurn { ordinal: Ordinal(1), attempt: 1 });
    world.commit_something();
    world.check();
}

/// A reading of one new point.
fn new_point(path: &str) -> (Vec<NewPoint>, Columns) {
    let mut columns = Columns::default();
    columns.push(PointNumber::pending(0), Timestamp(1), Quality::Good, ValueRef::Real(1.0));
    (vec![NewPoint { path: PointPath::new(TenantId::MAIN, path).unwrap(), unit: None }], columns)
}

/// A sealer of a site with so many points, and one installation that lives.
struct Crowded(Numberer);

impl Crowded {
    fn new(points: usize) -> Self {
        Self::counting(points, Seconds::default())
    }

    fn counting(points: usize, log_sync: Seconds) -> Self {
        let mut live = Living::default();
        live.insert(Generation(1), id("lane-0"), &LaneMeta::default());
        let mut generations = LastGenerations::default();
        generations.note(Generation(1));
        let numbers = Numbers {
            last_sequences: LastSequences::default(),
            points_given: points,
            points,
            requests: Recent::restore(Vec::new(), 3).0,
            generations,
            live,
            kept: BTreeMap::new(),
            copies: BTreeMap::new(),
            audit: Heads::default(),
        };
        let clock = Arc::new(Clock::new(Source::Feed, Timestamp(1)));
        let (to_fold, _) = channel();
        let points = Arc::new(Points::default());
        Self(Numberer::new(clock, points, numbers, to_fold, log_sync, Box::new(|_| {})))
    }

    /// Seals it; `None` where it was taken.
    fn seal<T>(
        &mut self,
        submission: Submission,
        mut reply: oneshot::Receiver<Result<T, Refusal>>,
    ) -> Option<Refusal> {
        match self.0.seal(submission, Position(1), &mut Vec::new()) {
            Seal::Record { .. } => None,
            _ => Some(reply.try_recv().unwrap().err().unwrap()),
        }
    }

    fn push(&mut self, path: &str) -> Option<Refusal> {
        let (new_points, columns) = new_point(path);
        let (item, answer) = readings_of(ReadingsHead::default(), new_points, columns, None);
        self.seal(item, answer)
    }

    fn commit(&mut self, generation: u64, installation: &str, ordinal: u64, path: &str) -> Option<Refusal> {
        let (new_points, derived) = new_point(path);
        let (reply, answer) = oneshot::channel();
        let before = LaneMeta { ordinal: Ordinal(ordinal - 1), attempts: 1, ..LaneMeta::default() };
        let mut head = head(generation, installation, &before);
        head.meta = LaneMeta { ordinal: Ordinal(ordinal), ..LaneMeta::default() };
        let (state, encoded) = Default::default();
        let commit = CommitSubmission { head, state, encoded, new_points, derived, place: None, reply };
        self.seal(Submission::Commit(Box::new(commit)), answer)
    }

    fn admin(&mut self, record: AdminRecord) -> Option<Refusal> {
        let (reply, answer) = oneshot::channel();
        self.seal(Submission::Admin(Box::new(AdminSubmission { record, said: None, reply })), answer)
    }
}

#[test]
fn apps_leave_points_to_sources_and_a_purge_gives_theirs_back() {
    let most = MAX_POINTS - SOURCE_POINTS;
    let mut site = Crowded::new(most - 1);
    assert_eq!(site.commit(1, "lane-0", 1, "apps/lane-0/out/1"), None);
    let refusal = |path: &str, limit| Some(Refusal::TooManyPoints { path: path.to_owned(), limit });
    let one_more = "apps/lane-0/out/2";
    assert_eq!(site.commit(1, "lane-0", 2, one_more), refusal(one_more, most));
    assert_eq!(site.push("farm/1"), None, "sources go on");
    assert_eq!(site.admin(uninstalled("lane-0", 1, Timestamp(1), true)), None);
    assert_eq!(site.admin(installed("lane-1", 2, &["a"])), None);
    // The two are one too many: the source's point took the place of the one that went.
    assert_eq!(site.commit(2, "lane-1", 1, one_more), refusal(one_more, most));

    let mut site = Crowded::new(MAX_POINTS - 1);
    assert_eq!(site.push("farm/1"), None);
    assert_eq!(site.push("farm/2"), refusal("farm/2", MAX_POINTS));
    assert_eq!(site.push("farm/1"), None, "a point that is there");
}

#[test]
fn points_that_were_kept_are_freed_by_a_later_purge_unless_their_installation_lives() {
    let most = MAX_POINTS - SOURCE_POINTS;
    let mut site = Crowded::new(most - 1);
    assert_eq!(site.commit(1, "lane-0", 1, "apps/lane-0/out/1"), None);
    let uninstalled = |generation| uninstalled("lane-0", generation, Timestamp(1), false);
    let purged = |generation: u64, points| AdminRecord::Purged {
        id: id("lane-0"),
        generations: vec![Generation(generation)],
        points,
    };
    assert_eq!(site.admin(purged(1, false)), Some(Refusal::Exists(id("lane-0"))));
    assert_eq!(site.admin(uninstalled(1)), None);
    assert_eq!(site.admin(installed("lane-0", 2, &["a"])), None);
    assert_eq!(site.admin(purged(1, true)), Some(Refusal::Exists(id("lane-0"))));
    let one_more = "apps/lane-0/out/2";
    let refusal = Refusal::TooManyPoints { path: one_more.to_owned(), limit: most };
    assert_eq!(site.commit(2, "lane-0", 1, one_more), Some(refusal.clone()));
    assert_eq!(site.admin(uninstalled(2)), None);
    assert_eq!(site.admin(purged(1, false)), None);
    assert_eq!(site.admin(installed("lane-0", 3, &["a"])), None);
    assert_eq!(site.commit(3, "lane-0", 1, one_more), Some(refusal), "its state went, and no point");
    assert_eq!(site.admin(uninstalled(3)), None);
    assert_eq!(site.admin(purged(2, true)), None);
    assert_eq!(site.admin(installed("lane-0", 4, &["a"])), None);
    assert_eq!(site.commit(4, "lane-0", 1, one_more), None);
}

#[test]
fn numbers_of_points_are_not_given_twice() {
    let mut site = Crowded::new(10);
    assert_eq!(site.commit(1, "lane-0", 1, "apps/lane-0/out/1"), None);
    assert_eq!(site.admin(uninstalled("lane-0", 1, Timestamp(1), true)), None);
    let (new_points, columns) = new_point("farm/1");
    let (item, _answer) = readings_of(ReadingsHead::default(), new_points, columns, None);
    let sealed = site.0.seal(item, Position(3), &mut Vec::new());
    let Seal::Record { sealed, .. } = sealed else { panic!("it is taken") };
    let Sealed::Readings { new_points, .. } = sealed.sealed else { panic!("they are readings") };
    assert_eq!(new_points[0].number, PointNumber(11));
}

#[test]
fn what_became_of_a_request_is_said_behind_its_record() {
    let mut site = Crowded::new(10);
    let look = |site: &mut Crowded, key: u8, request: u8| {
        let (reply, mut answer) = oneshot::channel();
        let request = Idempotency { key: [key; 16], request: [request; 16] };
        let item = Submission::Look(LookSubmission { request: Some(request), reply });
        match site.0.seal(item, Position(1), &mut Vec::new()) {
            // Told once what stands before it is durable.
            Seal::Barrier(Stamped { sealed: Sealed::Found { answer: found, .. }, .. }) => {
                assert!(answer.try_recv().is_err());
                Ok(found)
            }
            Seal::Nothing => answer.try_recv().unwrap(),
            _ => panic!("a look writes nothing"),
        }
    };
    assert_eq!(look(&mut site, 1, 1), Ok(None));
    let (new_points, columns) = new_point("farm/1");
    let idempotency = Some(Idempotency { key: [1; 16], request: [1; 16] });
    let head = ReadingsHead { receipt: None, idempotency };
    let (push, _answer) = readings_of(head, new_points, columns, None);
    assert!(matches!(site.0.seal(push, Position(1), &mut Vec::new()), Seal::Record { .. }));
    let taken = Accepted { accepted: 1, through: Sequence(1), duplicate: true };
    assert_eq!(look(&mut site, 1, 1), Ok(Some(taken)));
    assert_eq!(look(&mut site, 1, 2), Err(Refusal::KeyReused));
    assert_eq!(look(&mut site, 2, 1), Ok(None));
}

#[test]
fn each_sync_of_the_log_is_counted_with_its_time() {
    let telemetry = Telemetry::new(crate::telemetry::LogFilter::unused());
    let mut site = Crowded::counting(1, telemetry.metrics.log_sync.clone());
    for took in [Some(Duration::from_millis(250)), None, Some(Duration::from_millis(500))] {
        site.0.flushed(Vec::new(), took);
    }
    let text = telemetry.text();
    for line in ["ironloom_log_sync_seconds_count 2", "ironloom_log_sync_seconds_sum 0.75"] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_generation_is_adopted_once_under_its_id_and_while_it_is_kept() {
    let mut site = Crowded::new(10);
    let gone = |generation, purge| uninstalled("lane-0", generation, Timestamp(1), purge);
    assert_eq!(site.admin(adopting("lane-0", 1, 2)), Some(Refusal::Exists(id("lane-0"))), "it lives");
    assert_eq!(site.admin(gone(1, false)), None);
    assert_eq!(site.admin(adopting("lane-1", 1, 2)), Some(Refusal::Gone), "it is another's");
    assert_eq!(site.admin(adopting("lane-0", 1, 1)), Some(Refusal::GenerationTaken(Generation(1))));
    assert_eq!(site.admin(adopting("lane-0", 1, 2)), None);
    let purged = AdminRecord::Purged { id: id("lane-0"), generations: vec![Generation(1)], points: false };
    assert_eq!(site.admin(purged.clone()), Some(Refusal::Exists(id("lane-0"))));
    assert_eq!(site.admin(gone(1, false)), None);
    assert_eq!(site.admin(installed("lane-0", 3, &["a"])), None);
    assert_eq!(site.admin(gone(3, false)), None);
    assert_eq!(site.admin(purged), None);
    assert_eq!(site.admin(adopting("lane-0", 1, 4)), Some(Refusal::Gone), "it was purged");
    assert_eq!(site.admin(adopting("lane-0", 3, 4)), None, "the other was not");
    assert_eq!(site.admin(gone(3, true)), None);
    assert_eq!(site.admin(adopting("lane-0", 3, 5)), Some(Refusal::Gone));
}
