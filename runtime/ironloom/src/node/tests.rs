//! A whole node in a folder of its own, whose one installation has no code.

use std::future::Future;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::applied::Bound;
use super::facade::NodeFacade;
use super::install::first_meta;
use super::start::start_node;
use super::*;
use crate::api::facade::{
    AlarmDeed, Answer, Backlog, Ended, Facade as _, NoteRequest, Pushed, SetAside, StartFrom,
};
use crate::api::host::{AdminToken, Host as _, NodeOptions};
use crate::records::admin::{NewInstallation, PackageRecord};
use crate::records::alarm::{AlarmState, testing};
use crate::records::commit::DeadLetter;
use crate::records::installation::Revision;
use crate::records::installation::Standing;
use crate::records::lane::{Episodes, LaneMeta};
use ironloom_apps::binding::{Bindings, Patterns};
use ironloom_apps::manifest::Manifest;
use ironloom_storage::store::Item;
use ironloom_types::CompiledRef;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{self, Digest, Ordinal, PointNumber, Sequence, SlotName, TenantId};
use ironloom_types::limits::Limits;
use ironloom_types::readings::{Quality, Value};

const MANIFEST: &str = r#"
manifest = 1
id = "com.example.one"
name = "One"
version = "0.1.0"
[inputs.value]
type = "integer"
[alarms.hot]
severity = "low"
"#;

/// Installed as generation 1.
const INSTALLED: Digest = Digest([1; 32]);
const UNUSED: Digest = Digest([2; 32]);

pub(super) struct World {
    pub(super) node: Arc<Node>,
    facade: NodeFacade,
    id: InstallationId,
    folder: tempfile::TempDir,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with("").await
    }

    /// With this configuration.
    pub(super) async fn with(config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let node = start(folder.path(), config).await;
        for digest in [INSTALLED, UNUSED] {
            let record = package(digest);
            node.packages.write(&record.file_name(), digest.hex().as_bytes()).unwrap();
            node.change(AdminRecord::PackageAdded { tenant: TenantId::MAIN, package: Box::new(record) })
                .await
                .unwrap();
        }
        let id = InstallationId::new(TenantId::MAIN, "one").unwrap();
        node.change(installed(&id, 1)).await.unwrap();
        let facade = NodeFacade(Arc::clone(&node));
        Self { node, facade, id, folder }
    }

    fn lane(&self) -> Arc<Lane> {
        self.node.lane(&self.id).unwrap()
    }

    pub(super) async fn end(self) {
        self.facade.stop().await.unwrap();
    }
}

async fn start(folder: &Path, config: &str) -> Arc<Node> {
    let options = NodeOptions {
        config: Config::read(config).unwrap(),
        data: folder.join("data"),
        warnings: Vec::new(),
        admin_token: AdminToken::Never,
        throwaway: false,
        by_steps: false,
        compiled: Default::default(),
        telemetry: Telemetry::new(crate::telemetry::LogFilter::unused()),
        tls: None,
        source: crate::config::Source::default(),
    };
    tokio::task::spawn_blocking(move || start_node(options)).await.unwrap().unwrap()
}

fn package(digest: Digest) -> PackageRecord {
    PackageRecord {
        digest,
        manifest: MANIFEST.to_owned(),
        file: Digest::of(digest.hex().as_bytes()),
        signers: Vec::new(),
        imports: Vec::new(),
        sdk_version: None,
        compiled: CompiledRef { wasm: digest, engine: digest, code: digest },
    }
}

fn installed(id: &InstallationId, generation: u64) -> AdminRecord {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let asked = [(SlotName::new("value").unwrap(), Patterns::One("room/{name}".to_owned()))].into();
    let revision = Revision {
        number: ids::Revision(1),
        begun: Generation(generation),
        from: Sequence(1),
        package: INSTALLED,
        bindings: Arc::new(Bindings::new(&manifest, id, &asked).unwrap()),
        grants: Default::default(),
        settings: Default::default(),
        limits: Limits::default(),
        timezone: "UTC".to_owned(),
        keep_up: false,
    };
    let installation = Installation {
        id: id.clone(),
        generation: Generation(generation),
        begun: Generation(generation),
        app: manifest.id,
        version: manifest.version,
        package: INSTALLED,
        standing: Standing::Running,
        revision: ids::Revision(1),
        trial: None,
        went_back: None,
        publisher: None,
    };
    let meta = LaneMeta { next_dead_letter: 2, next_alarm: 2, dead_letters_kept: 1, ..LaneMeta::default() };
    AdminRecord::Installed(vec![NewInstallation { installation, revision, meta, adopted: None, owner: None }])
}

/// A caller that asks for a change and hangs up: its future is polled once.
fn hang_up<T>(change: impl Future<Output = Answer<T>>) {
    // What waits for no turn may be done by then.
    let _ = pin!(change).poll(&mut Context::from_waker(Waker::noop()));
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The dead letter of the first reading, as it is kept.
fn letter() -> Vec<u8> {
    let letter = DeadLetter {
        number: 1,
        input: SlotName::new("value").unwrap(),
        entity: "attic".into(),
        point: PointNumber(0),
        sequence: Sequence(1),
        time: Timestamp(1),
        at: Timestamp(1),
        quality: Quality::Good,
        value: Value::Integer(1),
        conversion: None,
        unit: None,
        reason: "reject: no".into(),
        by_trap: false,
        ordinal: Ordinal(1),
        revision: ids::Revision(1),
    };
    postcard::to_allocvec(&letter).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_whose_dead_letters_cant_be_looked_for_is_told_so() {
    let world = World::new().await;
    let (node, generation) = (&world.node, world.lane().generation);
    let keep = |letter: Vec<u8>| {
        let key = Item::DeadLetter(generation, 1).key();
        node.shared.overlay.apply_for_test([(key, Some(letter.into()))]);
    };
    let look = async |last: u64, time: Duration, is_ended: bool| {
        let lane = node.shared.lanes.of_generation(generation).unwrap();
        let pushed = Pushed { accepted: 1, through: Sequence(last), duplicate: false };
        let ended: Ended =
            if is_ended { Box::pin(std::future::ready(())) } else { Box::pin(std::future::pending()) };
        let deadline = tokio::time::Instant::now() + time;
        let own = pushed.first()..=pushed.through;
        node.set_aside(vec![Bound { lane, own }], pushed, deadline, ended).await
    };
    let told = |readings, at_least| vec![SetAside { id: world.id.clone(), readings, at_least }];
    let minute = Duration::from_secs(60);
    keep(letter());
    assert_eq!(look(1, minute, false).await, told(1, false));
    assert_eq!(look(2, minute, false).await, []);
    assert_eq!(look(1, minute, true).await, told(0, true), "the server stops");
    assert_eq!(look(1, Duration::ZERO, false).await, told(0, true), "there is no time");
    let places = node.bound_looks.acquire_many(super::applied::MAX_BOUND_LOOKS as u32).await.unwrap();
    assert_eq!(look(1, Duration::from_millis(50), false).await, told(0, true), "others look for theirs");
    drop(places);
    keep(b"no letter".to_vec());
    assert_eq!(look(1, minute, false).await, told(0, true), "it can't be read");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_admin_asked_for_happens_although_the_caller_hangs_up() {
    let world = World::new().await;
    let (facade, id, lane) = (&world.facade, || world.id.clone(), world.lane());
    // Each waits for the lane's turn, as it does beside an invocation, while its caller goes.
    let turn = lane.turn().await;
    hang_up(facade.pause(id()));
    drop(turn);
    until("it is paused", || lane.installation().standing == Standing::Paused).await;

    let turn = lane.turn().await;
    hang_up(facade.resume(id(), Backlog::Keep));
    drop(turn);
    until("it is resumed", || lane.installation().standing == Standing::Running).await;

    let alarm = testing::alarm("attic", 1, "31.5", None);
    let generation = lane.generation;
    world
        .node
        .change(AdminRecord::Alarm { generation, alarm: Box::new(alarm), episodes: Episodes::default() })
        .await
        .unwrap();
    let turn = lane.turn().await;
    hang_up(facade.change_alarm(
        TenantId::MAIN,
        "1-1".to_owned(),
        AlarmDeed::Acknowledge(NoteRequest::default()),
    ));
    drop(turn);
    let is_acknowledged =
        || lane.book().alarms().values().all(|alarm| alarm.state == AlarmState::Acknowledged);
    until("its alarm is acknowledged", is_acknowledged).await;

    let key = Item::DeadLetter(generation, 1).key();
    world.node.shared.overlay.apply_for_test([(key.clone(), Some(letter().into()))]);
    hang_up(facade.requeue(id(), 1));
    // It has no code, so the dead letter stays in line.
    until("its dead letter is to run again", || lane.pace.lock().requeue.any() == Some(1)).await;

    let turn = lane.turn().await;
    hang_up(facade.delete_dead_letter(id(), 1));
    drop(turn);
    until("its dead letter is deleted", || lane.book().meta().dead_letters_kept == 0).await;
    assert_eq!(world.node.shared.overlay.get(&key).unwrap(), None);

    let turn = lane.turn().await;
    hang_up(facade.uninstall(id(), true));
    drop(turn);
    until("it is uninstalled", || world.node.lanes.of(&world.id).is_none()).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_package_that_nothing_uses_is_dropped_with_its_file_and_one_that_is_installed_stays() {
    let world = World::new().await;
    let node = &world.node;
    node.drop_unused_packages(Duration::ZERO).await;
    let known: Vec<Digest> = node.shared.packages.read().keys().copied().collect();
    assert_eq!(known, [INSTALLED]);
    let is_there = |digest: Digest| node.packages.path(&package(digest).file_name()).exists();
    assert!(is_there(INSTALLED) && !is_there(UNUSED));
    // So it does for a state that may be adopted.
    world.facade.uninstall(world.id.clone(), false).await.unwrap();
    node.drop_unused_packages(Duration::ZERO).await;
    assert!(is_there(INSTALLED));
    node.purge(&world.id).await.unwrap();
    node.drop_unused_packages(Duration::ZERO).await;
    assert!(node.shared.packages.read().is_empty() && !is_there(INSTALLED));
    world.end().await;
}

#[test]
fn the_package_of_a_state_that_may_be_adopted_stays_over_a_restart() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let first = runtime();
    let folder = first.block_on(async {
        let World { node: _node, facade, id, folder } = World::new().await;
        facade.uninstall(id, false).await.unwrap();
        facade.stop().await.unwrap();
        folder
    });
    // Its tasks hold the store.
    drop(first);
    runtime().block_on(async {
        let node = start(folder.path(), "").await;
        node.drop_unused_packages(Duration::ZERO).await;
        let known: Vec<Digest> = node.shared.packages.read().keys().copied().collect();
        assert_eq!(known, [INSTALLED]);
        assert!(node.packages.path(&package(INSTALLED).file_name()).exists());
        NodeFacade(node).stop().await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_all_turns_gives_them_back_if_one_is_not_had() {
    let world = World::new().await;
    let (node, one) = (&world.node, world.lane());
    let id = InstallationId::new(TenantId::MAIN, "two").unwrap();
    node.change(installed(&id, 2)).await.unwrap();
    let two = node.lane(&id).unwrap();
    let busy = two.turn().await;
    let problem = node.stand_still().await.err().unwrap();
    assert!(problem.to_string().contains("installation two was under way"), "{problem}");
    // The other one runs again, and something can be installed.
    drop(one.turn().await);
    drop(node.admin.installing.lock().await);
    drop(busy);
    let held = node.stand_still().await.ok().unwrap();
    assert!(node.admin.installing.try_lock().is_err());
    for lane in [&one, &two] {
        assert!(tokio::time::timeout(Duration::from_millis(50), lane.turn()).await.is_err());
    }
    drop(held);
    for lane in [&one, &two] {
        drop(lane.turn().await);
    }
    // A change that hangs keeps none from running either.
    let installing = node.admin.installing.lock().await;
    let problem = node.stand_still().await.err().unwrap();
    assert!(problem.to_string().contains("a change to the installations"), "{problem}");
    drop(one.turn().await);
    drop(installing);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn points_wait_for_invocations_and_interrupt_none() {
    let world = World::new().await;
    let (node, lane) = (&world.node, world.lane());
    let id = InstallationId::new(TenantId::MAIN, "two").unwrap();
    node.change(installed(&id, 2)).await.unwrap();
    let other = node.lane(&id).unwrap();
    let turn = lane.turn().await;
    let waits = async {
        // For longer than all wait for it.
        tokio::time::sleep(Duration::from_millis(400)).await;
        assert!(!lane.interrupt.is_raised() && !other.interrupt.is_raised());
        // Others go on meanwhile, and nobody else has everything stand still.
        drop(tokio::time::timeout(Duration::from_secs(20), other.turn()).await.unwrap());
        assert!(node.stand_still_between().await.unwrap().is_none());
        drop(turn);
    };
    let (held, ()) = tokio::join!(node.stand_still_between(), waits);
    let held = held.unwrap().expect("its turn is had once the invocation has ended");
    assert!(tokio::time::timeout(Duration::from_millis(50), other.turn()).await.is_err());
    drop(held);
    // Between two of them the lanes have their time.
    assert!(node.stand_still_between().await.unwrap().is_none());
    drop(lane.turn().await);
    until("time for another", || {
        node.admin
            .still
            .try_lock()
            .is_ok_and(|line| line.is_some_and(|not_before| not_before < tokio::time::Instant::now()))
    })
    .await;
    // Nobody waits for a migration.
    other.set_migrates(true);
    let problem = node.stand_still_between().await.err().unwrap();
    assert_eq!((problem.status, &*problem.kind), (503, "busy"));
    assert!(problem.to_string().contains("installation two"), "{problem}");
    other.set_migrates(false);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_says_that_the_machines_clock_went_ahead() {
    let world = World::new().await;
    let told = || {
        world.node.show_readiness().notes.iter().any(|note| note.starts_with("clock: it went ahead by 24h"))
    };
    assert!(!told());
    let to = world.node.shared.clock.host().unwrap();
    let from = Timestamp(to.0 - 24 * 3600 * ironloom_types::clock::SECOND);
    world.node.clock_step.take(ironloom_types::clock::Step { from, to });
    assert!(told());
    assert!(world.node.show_readiness().reasons.iter().all(|reason| !reason.starts_with("clock")));
    world.end().await;
}

#[test]
fn what_begins_in_the_past_has_the_time_of_its_readings() {
    let AdminRecord::Installed(new) = installed(&InstallationId::new(TenantId::MAIN, "one").unwrap(), 1)
    else {
        panic!()
    };
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let begins = |from| {
        let meta = first_meta((from, Sequence(3)), &manifest, &new[0].revision, Timestamp(77));
        assert_eq!(
            (meta.cursor, meta.began.sequence, meta.began.time),
            (Sequence(3), Sequence(3), meta.time)
        );
        meta.time
    };
    assert_eq!(begins(StartFrom::Now), Timestamp(77));
    assert_eq!([StartFrom::Beginning, StartFrom::Time(Timestamp(5))].map(begins), [Timestamp(0); 2]);
}
