//! Batches against a plain model, and what becomes of reports.

mod batches;
mod choices;
mod outcomes;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::app_log::{AppLogs, InstallationLog};
use super::batch::{self, EntityNumbers, Offer};
use super::{Lane, Lanes};
use crate::fold::durable::{Begin, Listener as _, testing};
use crate::fold::queue::{Note, Queue, RowNote, Slice};
use crate::records::installation::{Installation, Revision, Standing};
use crate::records::lane::LaneMeta;
use ironloom_apps::binding::{Bindings, Patterns};
use ironloom_apps::manifest::Manifest;
use ironloom_apps::routing::RoutingTable;
use ironloom_storage::journal::{Chunk, Run};
use ironloom_storage::store::{CacheBudget, StateCache};
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{
    self, Digest, Generation, InstallationId, PointNumber, PointPath, Sequence, SlotName, TenantId,
};
use ironloom_types::limits::Limits;
use ironloom_types::readings::{Columns, Quality, ValueRef};

const MANIFEST: &str = r#"
manifest = 1
id = "com.example.any"
name = "Any"
version = "0.1.0"
schedule = true
[inputs.weight]
type = "real"
[inputs.count]
type = "integer"
optional = true
[inputs.open]
type = "boolean"
optional = true
[inputs.name]
type = "text"
optional = true
[inputs.scan]
type = "blob"
optional = true
[outputs.gain]
kind = "derived"
type = "real"
[alarms.hot]
severity = "low"
[timers.daily]
cron = "0 6 * * *"
"#;

/// The first segments of the points of each input, in the order of the manifest.
const INPUTS: [&str; 5] = ["weight", "count", "open", "name", "scan"];
/// Points of each input.
const POINTS: u32 = 4;

/// A lane that is bound to `<input>/<entity>`, and the table that routes to it.
pub(crate) fn lane() -> (Lane, RoutingTable) {
    numbered(0)
}

/// So many lanes, with the numbers from 0 on.
pub(super) fn lanes_of(count: u32) -> Lanes {
    let lanes = Lanes::new(std::env::temp_dir());
    for lane in (0..count).map(|number| Arc::new(numbered(number).0)) {
        let id = lane.id.clone();
        lanes.slab.write().insert(lane.number, lane.generation, &id, lane);
    }
    lanes
}

fn numbered(number: u32) -> (Lane, RoutingTable) {
    let manifest = Manifest::parse(MANIFEST).unwrap();
    let id = InstallationId::new(TenantId::MAIN, &format!("any-{number}")).unwrap();
    let asked = INPUTS
        .iter()
        .map(|input| (SlotName::new(input).unwrap(), Patterns::One(format!("{input}/{{n}}"))))
        .collect();
    let bindings = Bindings::new(&manifest, &id, &asked).unwrap();
    let mut table = RoutingTable::new();
    table.set_lane(0, &bindings.inputs, []);
    for number in 0..POINTS * INPUTS.len() as u32 {
        assert!(table.add_point(PointNumber(number), &path(number), None).is_empty());
    }
    let package = Digest([0; 32]);
    let installation = Installation {
        id,
        generation: Generation(1 + u64::from(number)),
        begun: Generation(1 + u64::from(number)),
        app: manifest.id.clone(),
        version: "0.1.0".into(),
        package,
        standing: Standing::Running,
        revision: ids::Revision(1),
        trial: None,
        went_back: None,
        publisher: None,
    };
    let revision = Revision {
        number: ids::Revision(1),
        begun: Generation(1 + u64::from(number)),
        from: Sequence(1),
        package,
        bindings: Arc::new(bindings),
        grants: Default::default(),
        settings: Arc::default(),
        limits: Limits::default(),
        timezone: "UTC".into(),
        keep_up: false,
    };
    let begin = Begin {
        past: Default::default(),
        installation,
        revisions: vec![(revision, Arc::new(manifest))],
        meta: LaneMeta { next_dead_letter: 1, next_alarm: 1, ..LaneMeta::default() },
        state: Arc::new(RwLock::new(StateCache::of_new_generation(&CacheBudget::new(usize::MAX)))),
        queue: Queue::after(Sequence(0), &Arc::default()),
        timers: BTreeMap::new(),
        alarms: Vec::new(),
    };
    let entities = table.entities(0).unwrap();
    let durable = testing::begin(number, begin, entities);
    let logs = Arc::new(AppLogs::new(std::env::temp_dir()));
    (Lane::new(durable, InstallationLog::new(&logs, "any")), table)
}

/// Point n belongs to input n / POINTS, entity n % POINTS.
pub(super) fn path(number: u32) -> PointPath {
    let (input, entity) = (INPUTS[(number / POINTS) as usize], number % POINTS);
    PointPath::new(TenantId::MAIN, &format!("{input}/e{entity}")).unwrap()
}

/// A chunk of these rows, of which each `run` (rows, time, hops) came with a record of its own.
pub(super) fn chunk(
    first: u64,
    rows: &[(u32, u64, Quality, ValueRef<'_>)],
    runs: &[(u32, u64, u8)],
) -> Arc<Chunk> {
    let mut columns = Columns::default();
    for &(point, at, quality, value) in rows {
        columns.push(PointNumber(point), Timestamp(at), quality, value);
    }
    let mut end = 0;
    let runs = runs.iter().map(|&(rows, time, hops)| {
        end += rows;
        Run { end, time: Timestamp(time), hops, origin: Generation(0) }
    });
    Arc::new(Chunk { tenant: TenantId::MAIN, first_sequence: Sequence(first), columns, runs: runs.collect() })
}

/// All rows of the chunk that are for the lane.
pub(super) fn note(table: &RoutingTable, chunk: &Arc<Chunk>) -> Note {
    let rows = chunk.columns.points.iter().enumerate().flat_map(|(row, point)| {
        let found = table.matches(*point).iter();
        found.map(move |found| RowNote::new(row, *found))
    });
    Note { chunk: Arc::clone(chunk), rows: rows.collect() }
}

pub(super) fn whole(note: Note) -> Slice {
    let to = note.rows.len();
    Slice { note, from: 0, to }
}

pub(super) fn offer(lane: &Lane, slices: Vec<Slice>) -> Offer {
    let mut numbers = EntityNumbers::default();
    let term = lane.newest();
    batch::build(slices, &term.revision.bindings.inputs, &term.entities, &mut numbers)
}

#[test]
fn a_lane_pays_for_what_a_checkpoint_writes_of_it() {
    let lanes = lanes_of(2);
    let [paying, other] = [0, 1].map(|number| lanes.get(number).unwrap());
    // Two seconds are saved up, and half of one comes in each second.
    lanes.folded(&paying, Duration::from_secs(3));
    let waits = |lane: &Lane| lane.bucket.lock().wait(lane.newest().limits.share, Instant::now());
    let wait = waits(&paying).unwrap().as_secs_f64();
    assert!((1.0..2.1).contains(&wait), "{wait}");
    assert_eq!(waits(&other), None);
}
