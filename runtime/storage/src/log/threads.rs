//! The committer on its threads, on the machine's own disk where nothing has to fail.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::committer::{CommitterHandle, Flushed, Seal, Sealer};
use super::config::Config;
use super::error::LogError;
use super::frame::RecordKind;
use super::identity::{Identity, Known};
use super::model::small;
use super::reader::{LogReader, RecordRef};
use super::recovery::{Log, recover};
use super::segment::{HEADER_BYTES, SegmentHeader};
use super::shared::Room;
use crate::disk::{Disk, Folder};
use crate::testing::SimDisk;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Position, Sequence, StreamId, TenantId};

/// Answers each item with its place, or with the error; counts the syncs whose time it hears.
#[derive(Default)]
struct Answer(Arc<AtomicUsize>);
type Reply = Result<RecordRef, LogError>;
type Item = (Vec<u8>, mpsc::Sender<Reply>);

impl Sealer for Answer {
    type Item = Item;
    type Sealed = mpsc::Sender<Reply>;

    fn seal(&mut self, (bytes, reply): Item, _position: Position, body: &mut Vec<u8>) -> Seal<Self::Sealed> {
        body.extend_from_slice(&bytes);
        Seal::Record {
            kind: RecordKind::Commit,
            version: 1,
            tenant: TenantId::MAIN,
            stream: StreamId::MAIN,
            first_sequence: Sequence(0),
            journal_time: Timestamp(0),
            sealed: reply,
        }
    }

    fn flushed(&mut self, group: Vec<Flushed<Self::Sealed>>, took: Option<Duration>) {
        self.0.fetch_add(usize::from(took.is_some_and(|took| !took.is_zero())), Ordering::SeqCst);
        for Flushed { record, sealed } in group {
            sealed.send(Ok(record.unwrap())).unwrap();
        }
    }

    fn failed(&mut self, unsynced: Vec<Self::Sealed>, waiting: Vec<Item>, error: &LogError) {
        for reply in unsynced.into_iter().chain(waiting.into_iter().map(|(_, reply)| reply)) {
            reply.send(Err(error.clone())).unwrap();
        }
    }
}

/// What a store would know, by the newest segment of the folder.
fn known(disk: &dyn Disk) -> Known {
    let newest = disk.list().unwrap().into_iter().filter(|name| name.ends_with(".log")).max();
    newest.map_or_else(Known::default, |name| {
        let mut bytes = [0; HEADER_BYTES];
        disk.open(&name).unwrap().read_at(&mut bytes, 0).unwrap();
        let SegmentHeader { epoch, log: id, number: newest, .. } = SegmentHeader::decode(&bytes).unwrap();
        Known { epoch, identity: Some(Identity { id, newest }), ..Known::default() }
    })
}

fn open(disk: Arc<dyn Disk>, config: Config) -> (Log, LogReader) {
    let known = known(&*disk);
    let log = recover(disk, config, known).unwrap().begin().unwrap();
    let reader = log.reader();
    (log, reader)
}

fn open_folder(path: &Path, config: Config) -> (CommitterHandle<Item>, LogReader) {
    let (log, reader) = open(Arc::new(Folder::open(path).unwrap()), config);
    (log.start(Answer::default()).unwrap(), reader)
}

/// Submits and waits.
fn commit(handle: &CommitterHandle<Item>, body: &[u8]) -> Reply {
    let (reply, answer) = mpsc::channel();
    handle.submit((body.to_vec(), reply), body.len()).map_err(|refused| refused.error)?;
    answer.recv().unwrap()
}

#[test]
fn many_threads_commit_and_everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, reader) = open_folder(folder.path(), small());
    let threads: Vec<_> = (0..4_u64)
        .map(|thread| {
            let handle = handle.clone();
            std::thread::spawn(move || -> Vec<_> {
                let body = |i: u64| (thread * 1000 + i).to_le_bytes().repeat(1 + (i % 60) as usize);
                (0..200).map(|i| (commit(&handle, &body(i)).unwrap(), body(i))).collect()
            })
        })
        .collect();
    let written: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    for (place, body) in written.iter().flatten() {
        assert_eq!(reader.read(*place).unwrap().body[..], body[..]);
    }
    handle.stop().unwrap();
    assert!(matches!(commit(&handle, b"late"), Err(LogError::Stopped)));

    let (_log, again) = open(Arc::new(Folder::open(folder.path()).unwrap()), small());
    let records = again.records(Position(1), Position(u64::MAX)).unwrap();
    let bodies: Vec<_> = records
        .map(Result::unwrap)
        .filter(|record| record.header.kind == RecordKind::Commit)
        .map(|record| (record.at.position, record.body.to_vec()))
        .collect();
    let mut expected: Vec<_> =
        written.into_iter().flatten().map(|(place, body)| (place.position, body)).collect();
    expected.sort();
    assert_eq!(bodies, expected);
}

#[test]
fn each_sync_of_a_group_is_told_with_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(Arc::new(Folder::open(folder.path()).unwrap()), small());
    let syncs = Arc::default();
    let handle = log.start(Answer(Arc::clone(&syncs))).unwrap();
    // Three, and the second doesn't fit behind the first.
    for bytes in [2_000, 3_000, 1] {
        commit(&handle, &vec![7; bytes]).unwrap();
    }
    handle.stop().unwrap();
    assert_eq!(syncs.load(Ordering::SeqCst), 3);
}

#[test]
fn a_disk_without_room_for_a_segment_ends_the_log_and_loses_nothing_acknowledged() {
    let disk = SimDisk::new(1);
    let config = Config { spares: 0, max_spares: 0, ..small() };
    let (log, _) = open(Arc::new(disk.clone()), config.clone());
    let handle = log.start(Answer::default()).unwrap();
    // A segment has room for one of these.
    let first = commit(&handle, &[1; 3_000]).unwrap();
    disk.set_full(true);
    let error = commit(&handle, &[2; 3_000]).unwrap_err();
    let LogError::Io { what: "create", source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert!(matches!(commit(&handle, &[3; 10]), Err(LogError::Stopped)), "nothing more is taken");
    assert!(handle.stop().is_err(), "the end is told as a failure");

    disk.power_cut();
    disk.set_full(false);
    let (log, reader) = open(Arc::new(disk), config);
    let records = reader.records(Position(1), Position(u64::MAX)).unwrap().map(Result::unwrap);
    let found: Vec<_> = records.map(|record| (record.at.position, record.body.to_vec())).collect();
    assert_eq!(found, [(first.position, vec![1; 3_000])]);
    let handle = log.start(Answer::default()).unwrap();
    commit(&handle, &[4; 3_000]).unwrap();
    handle.stop().unwrap();
}

#[test]
fn a_mark_covers_what_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let idle_mark = Duration::from_millis(1);
    let (handle, reader) = open_folder(folder.path(), Config { idle_mark, ..small() });
    let place = commit(&handle, b"one").unwrap();
    while reader.flushed() == place.position {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(20));
    let stats = handle.stats();
    assert_eq!((stats.records, stats.groups), (2, 2), "one mark, and none for the mark");
    let mark = reader.records(place.position.next(), Position(u64::MAX)).unwrap().next().unwrap().unwrap();
    assert_eq!((mark.header.kind, mark.header.durable), (RecordKind::Mark, place.position));

    // A clean stop needn't wait for the pause.
    let folder = tempfile::tempdir().unwrap();
    let (handle, reader) =
        open_folder(folder.path(), Config { idle_mark: Duration::from_secs(60), ..small() });
    let place = commit(&handle, b"one").unwrap();
    handle.stop().unwrap();
    assert_eq!(reader.flushed(), place.position.next());
}

#[test]
fn a_record_that_no_segment_holds_is_refused_and_takes_no_number() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, _) = open_folder(folder.path(), small());
    // 12 KiB less two pages for the segment and 54 bytes for the record's.
    assert_eq!(handle.max_body(), 12_288 - 8_192 - 54);
    assert_eq!(Config::default().max_body(), 67_100_618);
    let first = commit(&handle, b"one").unwrap();
    let refused = commit(&handle, &vec![0; handle.max_body() + 1]);
    assert!(matches!(refused, Err(LogError::TooLarge { bytes: 4043, max: 4042 })), "{refused:?}");
    let largest = commit(&handle, &vec![1; handle.max_body()]).unwrap();
    assert!(largest.position.0 <= first.position.0 + 2, "at most a mark lies between");
    handle.stop().unwrap();
}

#[test]
fn room_shrinks_first_for_pushes_then_for_all_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    // Each of these records takes a segment of 12 KiB for itself, and that is what the disk has to have.
    let idle_mark = Duration::from_secs(3600);
    let config = Config { max_bytes: 36_000, commit_reserve: 16_000, idle_mark, ..small() };
    let (handle, reader) = open_folder(folder.path(), config);
    assert_eq!(handle.room(), Room::All);
    commit(&handle, &[1; 4_000]).unwrap();
    assert_eq!(handle.room(), Room::All);
    commit(&handle, &[2; 4_000]).unwrap();
    assert_eq!(handle.room(), Room::CommitsOnly);
    let last = commit(&handle, &[3; 4_000]).unwrap();
    assert_eq!(handle.room(), Room::None);
    reader.free_through(last.position).unwrap();
    assert_eq!(handle.room(), Room::All, "only the active segment is left");
    handle.stop().unwrap();
}

#[test]
fn what_is_reserved_takes_room_of_others_until_it_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    // One segment of 12 KiB is in use.
    let config = Config { max_bytes: 24_000, commit_reserve: 4_000, ..small() };
    let (handle, _) = open_folder(folder.path(), config);
    let first = handle.reserve(4_000).unwrap();
    assert_eq!((handle.room(), handle.reserved()), (Room::All, 4_054));
    let second = handle.reserve(4_000).unwrap();
    assert_eq!((handle.room(), first.room(), second.room()), (Room::CommitsOnly, Room::All, Room::All));
    let third = handle.reserve(4_000).unwrap();
    assert_eq!((handle.room(), handle.reserved()), (Room::None, 3 * 4_054));
    let refused = handle.reserve(handle.max_body() + 1).err();
    assert!(matches!(refused, Some(LogError::TooLarge { bytes: 4043, max: 4042 })), "{refused:?}");
    drop((first, second, third));
    assert_eq!((handle.room(), handle.reserved()), (Room::All, 0));
    handle.stop().unwrap();
}

#[test]
fn after_a_failed_sync_everybody_is_told_and_nothing_more_is_taken() {
    let disk = SimDisk::new(7);
    let (log, _) = open(Arc::new(disk.clone()), small());
    let handle = log.start(Answer::default()).unwrap();
    commit(&handle, b"one").unwrap();
    let failing = |_| {
        // Past the mark that may come and the spare that may be made. A spare whose sync fails is made again.
        disk.arrange(None, Some(5));
        (0..10).find_map(|_| commit(&handle, b"more").err())
    };
    let failure = (0..10).find_map(failing).unwrap();
    assert!(matches!(failure, LogError::Io { what: "sync", .. }), "{failure}");
    let refused = (0..100).find_map(|_| {
        std::thread::sleep(Duration::from_millis(1));
        let refused = commit(&handle, b"after").err()?;
        matches!(refused, LogError::Stopped).then_some(())
    });
    assert!(refused.is_some());
    assert!(matches!(handle.stop(), Err(LogError::Io { .. })));
}

#[test]
fn a_segment_that_is_being_read_is_not_reused() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, reader) = open_folder(folder.path(), small());
    let mut last = commit(&handle, &[0; 1500]).unwrap();
    for i in 1..20 {
        last = commit(&handle, &[i; 1500]).unwrap();
    }
    let held = reader.records(Position(1), Position(u64::MAX)).unwrap();
    reader.free_through(last.position).unwrap();
    for _ in 0..20 {
        commit(&handle, &[99; 1500]).unwrap();
    }
    let first_bytes: Vec<_> = held
        .map(Result::unwrap)
        .filter(|record| record.header.kind == RecordKind::Commit)
        .map(|record| record.body[0])
        .collect();
    assert_eq!(first_bytes, (0..20).collect::<Vec<u8>>());
    let freed = reader.records(Position(1), Position(2)).err();
    assert!(matches!(freed, Some(LogError::Freed { position: Position(1) })));
    handle.stop().unwrap();
}

#[test]
fn segments_are_recycled_and_no_more_are_kept_than_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, reader) = open_folder(folder.path(), small());
    for _ in 0..5 {
        for _ in 0..20 {
            commit(&handle, &[1; 1500]).unwrap();
        }
        reader.free_through(reader.flushed()).unwrap();
    }
    handle.stop().unwrap();
    let names = Folder::open(folder.path()).unwrap().list().unwrap();
    let free = names.iter().filter(|name| name.ends_with(".free")).count();
    // One may have been in the making when the others were freed.
    assert!((1..=small().max_spares + 1).contains(&free), "{names:?}");
    assert!(names.len() - free <= 2, "{names:?}");
}

#[test]
fn bytes_since_is_never_too_little_and_little_too_much() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, reader) = open_folder(folder.path(), Config { segment_bytes: 1 << 20, ..Config::default() });
    let places: Vec<_> = (0..300).map(|i| commit(&handle, &vec![1; 100 * (i % 70)]).unwrap()).collect();
    handle.stop().unwrap();
    let check = |reader: &LogReader| {
        let all = reader.records(Position(1), Position(u64::MAX)).unwrap();
        let all: Vec<_> = all.map(|record| record.unwrap().at).collect();
        assert!(all.len() >= places.len());
        for place in &all {
            let exact: usize =
                all.iter().filter(|at| at.position > place.position).map(RecordRef::bytes).sum();
            let told = reader.bytes_since(place.position) as usize;
            assert!((exact..exact + (64 << 10) + 8_000).contains(&told), "{told} for {exact}");
        }
    };
    check(&reader);
    let (_log, again) = open(Arc::new(Folder::open(folder.path()).unwrap()), small());
    check(&again);
}
