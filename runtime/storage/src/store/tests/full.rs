//! A full disk: the store says so, and goes on by itself once there is room.
//!
//! The child is this test binary once more, with a limit on the size of its files instead of a disk.

use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;
use ironloom_types::ids::{Epoch, Generation};

const FOLDER: &str = "IRONLOOM_TEST_FULL_FOLDER";

fn limit_files(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
}

fn changes(seed: u64, keys: u64) -> Vec<Change> {
    changes_of(seed, 0..keys)
}

fn changes_of(seed: u64, keys: std::ops::Range<u64>) -> Vec<Change> {
    let key = |n| Item::State(Generation(1), &format!("{n:06}")).key();
    keys.map(|n| Change::set(key(n), bytes(seed + n, 2_000))).collect()
}

fn check(store: &dyn Storage, changes: &[Change]) {
    for change in changes {
        let found = store.get_many(std::slice::from_ref(&change.key)).unwrap();
        assert!(found[0] == change.value, "{} has another value", change.key);
    }
}

/// A file system of its own, of so many MiB.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` where this process may not mount one.
    fn new(mib: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn a_nearly_full_disk_is_noticed_before_a_write_fails() {
    for kind in EngineKind::ALL {
        let Some(disk) = SmallDisk::new(64) else {
            ironloom_mutate::not_tested("a disk that is nearly full", "only root may mount a small one");
            return;
        };
        let (folder, ballast) = (disk.0.path().join("store"), disk.0.path().join("ballast"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&ballast, vec![1; 24 << 20]).unwrap();
        let store = open_in(kind, &folder);
        let mut taken = Vec::new();
        let (error, refused) = (0..64)
            .find_map(|step| {
                let step = changes_of(1, 400 * step..400 * (step + 1));
                let error = store.apply(step.clone(), Epoch(1)).err();
                if error.is_none() {
                    taken = step.clone();
                }
                Some((error?, step))
            })
            .unwrap();
        assert!(error.is_full(), "{kind:?}: {error}");
        assert!(error.to_string().contains("are needed"), "{kind:?}, the system's own words: {error}");
        check(&*store, &taken);
        std::fs::remove_file(ballast).unwrap();
        assert_eq!(store.apply(refused.clone(), Epoch(1)).unwrap(), Applied::Done);
        check(&*store, &refused);
    }
}

#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    for kind in EngineKind::ALL {
        let folder = Path::new(&folder).join(kind.name());
        std::fs::create_dir(&folder).unwrap();
        let store = open_in(kind, &folder);
        assert_eq!(store.apply(changes(1, 100), Epoch(1)).unwrap(), Applied::Done);

        limit_files(Some(12 << 20));
        let many = changes(1_000, 20_000);
        for _ in 0..2 {
            let error = store.apply(many.clone(), Epoch(1)).unwrap_err();
            assert!(error.is_full(), "{kind:?}: {error}");
        }
        limit_files(None);
        assert_eq!(store.apply(many.clone(), Epoch(1)).unwrap(), Applied::Done);
        check(&*store, &many);
        drop(store);
        check(&*open_in(kind, &folder), &many);
    }
    println!("both went on");
}

#[test]
fn a_full_disk_is_named_and_the_store_goes_on_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let module = module_path!().split_once("::").unwrap().1;
    // What the limit sends would end the process; a full disk only fails the write.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([&format!("{module}::child"), "--exact", "--nocapture"])
        .env(FOLDER, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("both went on"), "{said}\n{complained}");
}
