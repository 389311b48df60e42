//! Copies that are made while checkpoints are.

use super::super::cut::Hold;
use super::*;
use crate::fold::copies::CopyError;
use crate::records::admin::Ended;
use crate::records::copy::{Copied, CopyBegun, CopyFacts, Reason};
use crate::records::installation::Installation;
use ironloom_types::ids::TenantId;

/// More than one write of a checkpoint has, where each key is written twice.
const KEYS: usize = 4_200;

/// A copy that is followed, as generation 2, of an installation of which no checkpoint has written this much.
fn followed() -> (tempfile::TempDir, Running, LaneMeta) {
    let mut world = World::new(EngineKind::Redb);
    world.install(0, &["a"], true);
    let folder = world.into_folder();
    let running = run(folder.path(), NEVER);
    let lane = running.shared.lanes.of_generation(Generation(1)).unwrap();
    let mut meta = lane.book().meta().clone();
    running.commit(&lane, &mut meta, (0..KEYS).map(key));
    running.begin_copy(2);
    let copied = running.shared.copy_stored(Generation(1), Generation(2)).unwrap();
    copied.blocking_recv().unwrap().unwrap();
    (folder, running, meta)
}

fn key(number: usize) -> String {
    format!("k{number:05}")
}

impl Running {
    /// A record gives a copy of generation 1 its number.
    fn begin_copy(&self, generation: u64) {
        let id = InstallationId::new(TenantId::MAIN, "lane-0").unwrap();
        let generation = Generation(generation);
        self.admin(AdminRecord::CopyBegun(CopyBegun { id, of: Generation(1), generation, at: Timestamp(1) }));
    }

    /// The state that the store has of a generation.
    fn state_of(&self, generation: u64) -> Vec<(String, Bytes)> {
        let range = KeyRange::generation(KeyKind::State, Generation(generation));
        let entries = self.storage.scan(&range, None, 200_000).unwrap().entries.into_iter();
        entries.map(|(key, value)| (key.state_text().unwrap().to_owned(), value)).collect()
    }
}

#[test]
fn a_checkpoint_writes_nothing_older_into_a_copy_that_is_whole() {
    let (_folder, running, mut meta) = followed();
    let before = running.storage.positions();
    let lane = running.shared.lanes.of_generation(Generation(1)).unwrap();
    let (waits, has_come) = channel();
    let (go_on, goes_on) = channel();
    *running.storage.hold.lock() = Some(Hold { of: Generation(2), waits, goes_on });
    running.shared.wishes.ask();
    // The first part is being written, and the values of the keys behind it are in the checkpoint's hands.
    has_come.recv_timeout(Duration::from_secs(20)).unwrap();
    running.commit_values(
        &lane,
        &mut meta,
        (0..KEYS).map(|number| (key(number), Bytes::from_static(b"new"))),
    );
    let rest = running.shared.copy_rest(Generation(2));
    go_on.send(()).unwrap();
    rest.blocking_recv().unwrap().unwrap();
    until("the checkpoint has ended", || running.storage.positions() > before);
    let expected: Vec<_> = (0..KEYS).map(|number| (key(number), Bytes::from_static(b"new"))).collect();
    assert_eq!(running.state_of(2), expected);
    running.stop();
}

#[test]
fn a_copy_on_a_full_disk_fails_at_once() {
    let (_folder, running, _) = followed();
    running.storage.fill(1);
    let rest = running.shared.copy_rest(Generation(2));
    assert_eq!(rest.blocking_recv().unwrap(), Err(CopyError::DiskFull));
    assert!(running.storage.has_room(), "it has tried");
    running.shared.abandon_copy(Generation(2));
    until("what there was of it is gone", || running.shared.removed.lock().is_empty());
    assert_eq!(running.state_of(2), []);
    // What the store has, too.
    let before = running.storage.positions();
    running.shared.wishes.ask();
    until("the store has it", || running.storage.positions() > before);
    assert_eq!(running.state_of(1).len(), KEYS);
    running.begin_copy(3);
    running.storage.fill(1);
    let copied = running.shared.copy_stored(Generation(1), Generation(3)).unwrap();
    assert_eq!(copied.blocking_recv().unwrap(), Err(CopyError::DiskFull));
    running.stop();
}

#[test]
fn a_copy_that_goes_asks_for_no_checkpoint() {
    let (_folder, running, _) = followed();
    let before = running.storage.positions();
    running.shared.copy_rest(Generation(2)).blocking_recv().unwrap().unwrap();
    assert_eq!(running.state_of(2).len(), KEYS);
    let lane = running.shared.lanes.of_generation(Generation(1)).unwrap();
    let of =
        Ended { installation: Installation::clone(&lane.installation()), meta: lane.book().meta().clone() };
    let facts =
        CopyFacts { revision: (*lane.newest().revision).clone(), at: Timestamp(1), reason: Reason::Regular };
    let copied = Copied { generation: Generation(2), of, facts };
    running.admin(AdminRecord::Copied(Box::new(copied)));
    // One that is whole, and one that was only begun.
    running.begin_copy(3);
    running.shared.abandon_copy(Generation(3));
    let (id, generations) = (lane.id.clone(), vec![Generation(2)]);
    running.admin(AdminRecord::Purged { id, generations, points: false });
    until("both are gone", || running.shared.removed.lock().is_empty());
    assert_eq!(running.state_of(2), []);
    assert_eq!(running.storage.positions(), before, "a checkpoint of all for each would be dear");
    running.stop();
}
