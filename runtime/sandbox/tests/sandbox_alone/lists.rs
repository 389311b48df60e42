//! What an app can make the host hold while it calls it: one guest for each function that takes lists or texts.

use super::*;

/// What the host may hold beside the app's own memory, which is 32 MiB: a few times what one call may carry.
const MOST: u64 = 160 << 20;

/// The most memory that the process has had since [`forget_peak`].
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Fills memory from 64 KiB on with records of so many words, which are all the same.
fn records(count: u32, words: &[u32]) -> String {
    let bytes = 4 * words.len() as u32;
    let stores: String = (0..)
        .zip(words)
        .map(|(place, word)| format!("(i32.store offset={} (local.get $j) (i32.const {word}))", place * 4))
        .collect();
    format!(
        "(drop (memory.grow (i32.const 500)))
         (local.set $j (i32.const 65536))
         (loop $l {stores}
           (local.set $j (i32.add (local.get $j) (i32.const {bytes})))
           (local.set $i (i32.add (local.get $i) (i32.const 1)))
           (br_if $l (i32.lt_u (local.get $i) (i32.const {count}))))"
    )
}

/// Memory from 64 KiB on, full of one letter.
fn letters(bytes: u32, letter: u32) -> String {
    format!(
        "(drop (memory.grow (i32.const 500))) (memory.fill (i32.const 65536) (i32.const {letter}) (i32.const {bytes}))"
    )
}

/// What a guest does, how, and how its invocation ends. A call that carries at most 16 MiB reaches the host, which
/// refuses too many keys with an error that these guests ignore: the invocation ends well. A call that carries more
/// ends it. A text counts its bytes and 24 for itself, an entry of `state` two of these, an intent more than 64.
type Case = (&'static str, Guest, Outcome);

/// Guests that hand lists to `state`.
fn of_state() -> Vec<Case> {
    let state = |function: &str, parameters: usize, body: String| {
        let declaration = format!("$f (param{})", " i32".repeat(parameters));
        Guest::readings(&body).import("ironloom:state/state@0.1.0", function, &declaration)
    };
    let call = |arguments: &[u32]| {
        let arguments: String = arguments.iter().map(|number| format!("(i32.const {number})")).collect();
        format!("(call $f {arguments})")
    };
    let feeds = |bytes| letters(bytes, 10);
    vec![
        (
            "get-many of 15 million line feeds",
            state("get-many", 3, feeds(15_000_000) + &call(&[65_536, 15_000_000, 64])),
            Outcome::Ok,
        ),
        (
            "get-many of 30 million line feeds",
            state("get-many", 3, feeds(30_000_000) + &call(&[65_536, 30_000_000, 64])),
            Outcome::HostCallLimit,
        ),
        (
            "set-many of 15 million keys without values",
            state("set-many", 7, feeds(15_000_000) + &call(&[65_536, 15_000_000, 0, 0, 0, 0, 64])),
            Outcome::Ok,
        ),
        (
            "set-many of 3 million values for no keys",
            state("set-many", 7, letters(15_000_000, 0) + &call(&[0, 0, 65_536, 3_000_000, 0, 0, 64])),
            Outcome::Ok,
        ),
        (
            "set-many of one buffer of 30 MB",
            state("set-many", 7, feeds(30_000_000) + &call(&[0, 0, 0, 0, 65_536, 30_000_000, 64])),
            Outcome::HostCallLimit,
        ),
        (
            "get-rows under a prefix of 15 MB",
            state("get-rows", 3, letters(15_000_000, 112) + &call(&[65_536, 15_000_000, 64])),
            Outcome::Ok,
        ),
        (
            "set-rows of 3 million times the first line",
            state("set-rows", 9, letters(12_000_000, 0) + &call(&[0, 0, 65_536, 3_000_000, 0, 0, 0, 0, 64])),
            Outcome::Ok,
        ),
    ]
}

/// Guests that hand over anything else.
fn of_others() -> Vec<Case> {
    let outputs = |function: &str, declaration: &str, body: String| {
        Guest::readings(&body).import("ironloom:outputs/outputs@0.1.0", function, declaration)
    };
    vec![
        (
            "publish of 15 million line feeds",
            outputs(
                "publish",
                "$f (param i32 i32 i32 i32 i32)",
                letters(15_000_000, 10)
                    + "(call $f (i32.const 65536) (i32.const 15000000) (i32.const 0) (i32.const 0) (i32.const 64))
                       (call $f (i32.const 65536) (i32.const 15000000) (i32.const 0) (i32.const 0) (i32.const 64))",
            ),
            Outcome::HostCallLimit,
        ),
        (
            "publish of 30 million line feeds",
            outputs(
                "publish",
                "$f (param i32 i32 i32 i32 i32)",
                letters(30_000_000, 10)
                    + "(call $f (i32.const 65536) (i32.const 30000000) (i32.const 0) (i32.const 0) (i32.const 64))",
            ),
            Outcome::HostCallLimit,
        ),
        (
            "request of 500,000 intents",
            outputs(
                "request",
                "$f (param i32 i32 i32)",
                records(500_000, &[1024, 1, 1024, 1, 0, 0, 0, 0, 1, 0])
                    + "(call $f (i32.const 65536) (i32.const 500000) (i32.const 64))",
            ),
            Outcome::HostCallLimit,
        ),
        (
            "a line of 15 MiB for the log",
            Guest::readings(
                &(letters(15_728_640, 109)
                    + "(call $f (i32.const 2) (i32.const 1024) (i32.const 0) (i32.const 65536) (i32.const 15728640))"),
            )
            .import("wasi:logging/logging@0.1.0-draft", "log", "$f (param i32 i32 i32 i32 i32)"),
            Outcome::Ok,
        ),
        (
            // The answer at 16 names a list of refusals: frame 0, reading 0, a reason of 1,000 letters.
            "an answer of 300,000 refusals",
            Guest::readings(
                &(records(300_000, &[0, 0, 1024, 1_000])
                    + "(i32.store (i32.const 20) (i32.const 65536)) (i32.store (i32.const 24) (i32.const 300000))"),
            ),
            Outcome::HostCallLimit,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_list_takes_more_of_the_host_than_a_call_may_carry() {
    let _alone = ALONE.lock().await;
    let bench = Bench::new();
    let limits = Limits { cpu: 10_000_000_000, ..Limits::default() };
    for (what, guest, expected) in of_state().into_iter().chain(of_others()) {
        let app = bench.install(&guest).await;
        // The first call makes what stays: the place in the pool, the stack.
        let empty = bench.install(&Guest::readings("")).await;
        bench.consume(&empty, &batch(3), env()).await;
        forget_peak();
        let before = peak();
        let report = bench.consume(&app, &batch(3), env_with(State::default(), limits.clone())).await;
        let grown = peak().saturating_sub(before);
        println!("{what}: {} and {} MiB, {:?} of the CPU", report.outcome, grown >> 20, report.cpu);
        assert!(grown < MOST, "{what}: the host grew by {} MiB", grown >> 20);
        assert_eq!(report.outcome, expected, "{what}");
    }
}
