//! Nothing of one invocation is there in the next, of the same app or of another that gets its place: not in
//! memory, not in globals, not in tables.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// 4 MiB of memory, a table of several pages, and a global. What is found from before traps.
const PARTS: &str = "
    (global $mark (mut i64) (i64.const 0))
    (table $functions 5000 funcref)
    (elem declare func $alloc)
    (func $look (local $i i32)
      (if (i32.eq (i32.const -1) (memory.grow (i32.const 63))) (then unreachable))
      (if (i64.ne (global.get $mark) (i64.const 0)) (then unreachable))
      (loop $l
        (if (i32.eqz (ref.is_null (table.get $functions (local.get $i)))) (then unreachable))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 5000))))
      (local.set $i (i32.const 65536))
      (loop $l
        (if (i64.ne (i64.load (local.get $i)) (i64.const 0)) (then unreachable))
        (local.set $i (i32.add (local.get $i) (i32.const 8)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 4194304)))))
    (func $leave (local $i i32)
      (global.set $mark (i64.const -1))
      (loop $l
        (table.set $functions (local.get $i) (ref.func $alloc))
        (local.set $i (i32.add (local.get $i) (i32.const 7)))
        (br_if $l (i32.lt_u (local.get $i) (i32.const 5000)))))";

/// Writes so many words, so far apart, from 64 KiB on.
fn apart(bytes: u32, words: u32) -> String {
    format!(
        "(local.set $i (i32.const 65536))
         (loop $l
           (i64.store (local.get $i) (i64.const 0x5ec4e7))
           (local.set $i (i32.add (local.get $i) (i32.const {bytes})))
           (br_if $l (i32.lt_u (local.get $i) (i32.const {}))))",
        65_536 + bytes * words
    )
}

/// Guests that make memory dirty in different ways: in more separate places than the kernel tells at once, but less
/// than is kept; in more than is kept; and all of it.
fn dirty() -> [(&'static str, String); 3] {
    [
        ("a hundred pages apart", apart(8_192, 100)),
        ("500 pages apart", apart(8_192, 500)),
        (
            "three mebibytes",
            "(memory.fill (i32.const 65536) (i32.const 0x5e) (i32.const 3145728))".to_owned(),
        ),
    ]
}

/// Looks for what is left of others, leaves something behind, and asks for state, so that whoever answers can do
/// something to its memory meanwhile. `other` makes it another component.
fn guest(write: &str, other: bool) -> Guest {
    let body = format!(
        "(call $look) {write} (call $leave) (call $get (i32.const 1024) (i32.const 3) (i32.const 64))"
    );
    let guest = Guest::readings(&body)
        .import("ironloom:state/state@0.1.0", "get", "$get (param i32 i32 i32)")
        .with(PARTS)
        .with(&data(1024, "key"));
    if other { guest.with("(func $another (param f32))").with(&data(2048, "another")) } else { guest }
}

fn limits() -> Limits {
    Limits { cpu: 10_000_000_000, ..Limits::default() }
}

/// Runs each guest twice, and another component after it, all in the one place that there is.
async fn run_all(env: impl Fn() -> Env) {
    for (how, write) in dirty() {
        let bench = Bench::with_places(1);
        let app = bench.install(&guest(&write, false)).await;
        let other = bench.install(&guest(&write, true)).await;
        for (round, app) in [&app, &app, &other, &app, &other, &other].into_iter().enumerate() {
            let report = bench.consume(app, &batch(3), env()).await;
            assert_eq!(report.outcome, Outcome::Ok, "{how}, call {round} finds what another has left");
            assert!(report.peak_memory > 4 << 20);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_globals_and_tables_begin_anew() {
    let _alone = ALONE.lock().await;
    run_all(|| env_with(State::default(), limits())).await;
}

/// Where a guest has data of its own: in the first page of 64 KiB, behind it, and at both sides of the 384 KiB that are
/// cleared instead of given back.
const STATICS: [u32; 5] = [4_096, 69_632, 389_120, 393_216, 524_288];

/// Looks for its own data, and overwrites it with the pages that it lies on.
fn with_statics(text: &[u8; 8]) -> Guest {
    let word = i64::from_le_bytes(*text);
    let body: String = STATICS
        .map(|at| {
            format!(
                "(if (i64.ne (i64.load (i32.const {at})) (i64.const {word})) (then unreachable))
         (memory.fill (i32.const {}) (i32.const 0x5e) (i32.const 4096))",
                at & !4_095,
            )
        })
        .concat();
    let statics = STATICS.map(|at| data(at, std::str::from_utf8(text).unwrap())).concat();
    Guest::readings(&body).pages(10).with(&statics)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_own_data_is_as_it_was_after_a_call_that_wrote_over_it() {
    let _alone = ALONE.lock().await;
    let bench = Bench::with_places(1);
    let app = bench.install(&with_statics(b"original")).await;
    let other = bench.install(&with_statics(b"of-other")).await;
    for (round, app) in [&app, &app, &other, &app, &other, &other].into_iter().enumerate() {
        let report = bench.consume(app, &batch(3), env_with(State::default(), limits())).await;
        assert_eq!(report.outcome, Outcome::Ok, "call {round} finds other data than the app came with");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_swapped_out_is_gone_too() {
    let _alone = ALONE.lock().await;
    let _swap = match Swap::on() {
        Ok(swap) => swap,
        Err(why) => {
            ironloom_mutate::not_tested("memory that is swapped out when a call ends", &why);
            return;
        }
    };
    // Pages out the memory of this process while an app waits for its state.
    let most = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&most);
    let state = Arc::new(Uncached(move |keys| {
        page_out();
        seen.fetch_max(swapped(), Ordering::SeqCst);
        no_values(keys)
    }));
    run_all(move || Env { state: state.clone(), ..env_with(State::default(), limits()) }).await;
    let most = most.load(Ordering::SeqCst);
    assert!(most > 1 << 20, "only {most} bytes were swapped out");
}

/// Asks the kernel to move all private memory of this process to swap.
fn page_out() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next().unwrap(), fields.next().unwrap());
        let (begin, end) = range.split_once('-').unwrap();
        let [begin, end] = [begin, end].map(|address| usize::from_str_radix(address, 16).unwrap());
        if rights == "rw-p" {
            // SAFETY: this advice changes nothing of what the memory holds, only where the kernel keeps it. The
            // mapping may have gone meanwhile: then there is nothing to move, or what is there is moved instead.
            #[allow(unsafe_code, reason = "advice to the kernel; its proof is above")]
            let _ = unsafe {
                rustix::mm::madvise(
                    std::ptr::without_provenance_mut(begin),
                    end - begin,
                    rustix::mm::Advice::LinuxPageOut,
                )
            };
        }
    }
}

/// A figure of `/proc`, in bytes.
fn figure(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn swapped() -> u64 {
    figure("/proc/self/status", "VmSwap")
}

/// Swap space: the machine's own, or a file of the test's that is given up at its end.
struct Swap(Option<std::path::PathBuf>);

impl Swap {
    /// A test doesn't change the machine unasked: it makes swap where `IRONLOOM_TEST_SWAP` is set, as root.
    fn on() -> Result<Self, String> {
        if figure("/proc/meminfo", "SwapFree") > 256 << 20 {
            return Ok(Self(None));
        }
        if std::env::var_os("IRONLOOM_TEST_SWAP").is_none() {
            return Err("the machine has no swap; as root, set IRONLOOM_TEST_SWAP=1 to make some".to_owned());
        }
        let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("swap");
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).arg(&file).output();
            match output {
                Ok(output) if output.status.success() => Ok(()),
                Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
                Err(error) => Err(format!("{program}: {error}")),
            }
        };
        let _ = std::fs::remove_file(&file);
        run("fallocate", &["-l", "512M"])?;
        let swap = Self(Some(file.clone()));
        run("chmod", &["600"])?;
        run("mkswap", &[])?;
        run("swapon", &[])?;
        Ok(swap)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            let _ = Command::new("swapoff").arg(file).output();
            let _ = std::fs::remove_file(file);
        }
    }
}
