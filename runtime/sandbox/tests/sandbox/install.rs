//! What is refused at install, and what the worker and the cache do.

use bytes::Bytes;
use ironloom_sandbox::*;
use ironloom_types::CompiledRef;
use ironloom_types::interfaces::{Declared, Roles};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope,
};

use crate::guest::Guest;
use crate::harness::*;

fn refusal(result: Result<std::sync::Arc<LoadedApp>, String>) -> String {
    result.map(|_| ()).expect_err("it must be refused")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_tells_what_the_component_is() {
    let bench = Bench::new();
    let guest = Guest::readings("(drop (call $now))").and_timers("").import(
        "ironloom:invocation/invocation@0.1.0",
        "now",
        "$now (result i64)",
    );
    let guest = guest.with("(@custom \"ironloom-sdk\" \"0.1.0\")");
    let inspection = bench.sandbox.compile(guest.build().into()).await.unwrap();
    assert!(inspection.imports.contains(&"ironloom:invocation/invocation@0.1.0".to_owned()));
    assert!(inspection.exports.contains(&"ironloom:feeds/readings@0.1.0".to_owned()));
    assert_eq!(inspection.sdk_version.as_deref(), Some("0.1.0"));
    assert_eq!(bench.cached_files().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_component_is_refused() {
    let bench = Bench::new();
    let compile = async |bytes: &[u8]| bench.sandbox.compile(bytes.to_vec().into()).await.unwrap_err();
    let refused = |error: CompileError| match error {
        CompileError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    };
    assert_eq!(refused(compile(&wat::parse_str("(module)").unwrap()).await), Refusal::CoreModule);
    assert_eq!(refused(compile(b"").await), Refusal::NotWasm);
    assert_eq!(refused(compile(b"(component)").await), Refusal::NotWasm);
    let mut random = vec![0; 100_000];
    let mut x = 0x9e37_79b9_u32;
    for byte in &mut random {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (x >> 24) as u8;
    }
    assert_eq!(refused(compile(&random).await), Refusal::NotWasm);

    let good = Guest::readings("").build();
    for cut in [100, good.len() / 2, good.len() - 1] {
        assert!(matches!(refused(compile(&good[..cut]).await), Refusal::Invalid(_)), "cut at {cut}");
    }
    let mut changed = good.clone();
    let at = changed.len() / 2;
    changed[at..at + 16].fill(0xff);
    assert!(matches!(refused(compile(&changed).await), Refusal::Invalid(_)));

    bench.sandbox.compile(good.into()).await.unwrap();
    let precompiled = std::fs::read(&bench.cached_files()[0]).unwrap();
    assert_eq!(refused(compile(&precompiled).await), Refusal::Precompiled);

    assert!(matches!(compile(&vec![0; (64 << 20) + 1]).await, CompileError::TooBig(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_parts_are_refused() {
    let bench = Bench::new();
    let instances = "(core instance (instantiate $m))".repeat(21);
    let wasm = wat::parse_str(format!("(component (core module $m) {instances})")).unwrap();
    let error = bench.sandbox.compile(wasm.into()).await.unwrap_err();
    assert!(matches!(error, CompileError::Refused(Refusal::TooLarge(_))), "{error}");
    let instances = "(core instance (instantiate $m))".repeat(11);
    let wasm = wat::parse_str(format!("(component (core module $m (memory 1)) {instances})")).unwrap();
    let error = bench.sandbox.compile(wasm.into()).await.unwrap_err();
    assert!(matches!(error, CompileError::Refused(Refusal::TooLarge(_))), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_needs_too_much_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let sandbox = |compile: CompileLimits| {
        let config =
            SandboxConfig::new(folder.path().to_owned(), env!("CARGO_BIN_EXE_compile-worker").into());
        Sandbox::new(SandboxConfig { places: 1, compile, ..config }).unwrap()
    };
    // Wide enough to take a second or more.
    let function = format!(
        "(func (param i32) (result i32) (local.get 0) {})",
        "(i32.const 3) i32.mul (i32.const 7) i32.add".repeat(200)
    );
    let wasm = wat::parse_str(format!("(component (core module {}))", function.repeat(3_000))).unwrap();
    let wasm = Bytes::from(wasm);

    let limits = CompileLimits { cpu: std::time::Duration::from_secs(1), ..CompileLimits::default() };
    let error = sandbox(limits).compile(wasm.clone()).await.unwrap_err();
    assert!(matches!(error, CompileError::Time(_)), "{error}");
    let limits = CompileLimits { wall: std::time::Duration::from_millis(300), ..CompileLimits::default() };
    let error = sandbox(limits).compile(wasm.clone()).await.unwrap_err();
    assert!(matches!(error, CompileError::Time(_)), "{error}");
    let limits = CompileLimits { memory: 48 << 20, ..CompileLimits::default() };
    let error = sandbox(limits).compile(wasm.clone()).await.unwrap_err();
    assert!(matches!(error, CompileError::Memory(_)), "{error}");
    // The engine alone fits within that limit.
    sandbox(limits).compile(Guest::readings("").build().into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_worker_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = SandboxConfig::new(folder.path().to_owned(), folder.path().join("nothing"));
    let error = Sandbox::new(config).unwrap().compile(Bytes::new()).await.unwrap_err().to_string();
    assert!(error.contains("could not start"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_declared_is_not_linked() {
    // The words for it are those of `ironloom_apps::roles`, which judges before anything is loaded.
    let bench = Bench::new();
    let raise = Guest::readings("").import(
        "ironloom:alarms/alarms@0.1.0",
        "raise",
        "$raise (param i32 i32 i32 i32 i32 i32 i32 i64 i32)",
    );
    let raise = raise.with("(func $use (call $raise (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 64)))");
    let error = refusal(bench.try_install(raise.build(), Declared { alarms: false, ..ALL }).await);
    assert!(
        error.contains("was built against other interfaces")
            && error.contains("ironloom:alarms/alarms@0.1.0"),
        "{error}"
    );
    assert!(bench.try_install(raise.build(), ALL).await.is_ok());

    let cancel =
        Guest::readings("").import("ironloom:timers/schedule@0.1.0", "cancel", "$cancel (param i32 i32 i32)");
    let cancel = cancel.with("(func $use (call $cancel (i32.const 0) (i32.const 0) (i32.const 64)))");
    let error = refusal(bench.try_install(cancel.build(), Declared { schedule: false, ..ALL }).await);
    assert!(error.contains("ironloom:timers/schedule@0.1.0"), "{error}");

    let http =
        Guest::readings("(call $handle)").import("wasi:http/outgoing-handler@0.2.0", "handle", "$handle");
    let error = refusal(bench.try_install(http.build(), ALL).await);
    assert!(error.contains("wasi:http/outgoing-handler@0.2.0"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_knows_its_roles() {
    let bench = Bench::new();
    let roles = async |guest: Guest| bench.try_install(guest.build(), ALL).await.unwrap().roles();
    assert_eq!(roles(Guest::readings("")).await, Roles { readings: true, ..Roles::default() });
    let both = Guest::readings("").and_timers("");
    assert_eq!(roles(both).await, Roles { readings: true, timers: true, lifecycle: false });
    assert_eq!(roles(Guest::none()).await, Roles::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn installations_of_one_package_share_its_code() {
    let bench = Bench::new();
    let wasm = Bytes::from(Guest::readings("").build());
    let compiled = bench.sandbox.compile(wasm.clone()).await.unwrap().compiled;
    let load = async |declared, memory| {
        let wasm = wasm.clone();
        bench.sandbox.load(&compiled, || Ok(wasm), declared, memory).await.unwrap().app
    };
    let (one, other) = tokio::join!(load(ALL, MEMORY), load(ALL, 2 * MEMORY));
    assert!(std::sync::Arc::ptr_eq(&one, &other));
    let less = load(Declared { alarms: false, ..ALL }, MEMORY).await;
    assert!(!std::sync::Arc::ptr_eq(&one, &less), "another manifest, other imports");
    // Nobody has it any more: it is read from the cache again.
    drop((one, other, less));
    std::fs::remove_file(&bench.cached_files()[0]).unwrap();
    let compiled_again = bench.sandbox.load(&compiled, move || Ok(wasm), ALL, MEMORY).await.unwrap();
    assert_eq!(bench.cached_files().len(), 1);
    assert_eq!(compiled_again.compiled, compiled);
    // A component that needs more memory to start than one installation has is refused for that one alone.
    let hungry = Bytes::from(Guest::readings("").with("(func $start (if (i32.eq (i32.const -1) (memory.grow (i32.const 100))) (then unreachable))) (start $start)").build());
    let compiled = bench.sandbox.compile(hungry.clone()).await.unwrap().compiled;
    let load = async |memory| bench.sandbox.load(&compiled, || Ok(Bytes::new()), ALL, memory).await;
    let _kept = load(MEMORY).await.unwrap();
    assert!(load(4 << 20).await.unwrap_err().to_string().contains("memory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_code_than_is_allowed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = SandboxConfig::new(folder.path().to_owned(), env!("CARGO_BIN_EXE_compile-worker").into());
    let sandbox = |code: u64| {
        let compile = CompileLimits { code, ..CompileLimits::default() };
        Sandbox::new(SandboxConfig { places: 1, compile, ..config.clone() }).unwrap()
    };
    let wasm = Bytes::from(Guest::readings("").build());
    sandbox(1 << 20).compile(wasm.clone()).await.unwrap();
    let error = sandbox(1 << 10).compile(wasm).await.unwrap_err();
    assert!(
        matches!(&error, CompileError::Refused(Refusal::TooLarge(text)) if text.contains("compiled code has")),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "what was refused leaves no file");
}

#[tokio::test(flavor = "multi_thread")]
async fn proposals_that_no_app_needs_are_refused() {
    let bench = Bench::new();
    for (what, wat) in [
        ("a stream", "(component (type (stream u8)))"),
        ("a future", "(component (type (future u8)))"),
        ("an async function", "(component (import \"f\" (func async)))"),
        ("external references", "(component (core module (table 1 externref)))"),
        ("a type of the garbage collector's", "(component (core module (type (struct (field i32)))))"),
        ("exceptions", "(component (core module (tag)))"),
        ("shared memory", "(component (core module (memory 1 1 shared)))"),
        ("64-bit memory", "(component (core module (memory i64 1)))"),
        ("small pages", "(component (core module (memory 1 (pagesize 1))))"),
        (
            "wide arithmetic",
            "(component (core module (func (i64.const 0) (i64.const 0) (i64.mul_wide_s) (drop) (drop))))",
        ),
    ] {
        let error = bench.sandbox.compile(wat::parse_str(wat).unwrap().into()).await.unwrap_err();
        assert!(matches!(error, CompileError::Refused(Refusal::Invalid(_))), "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn memories_are_waited_for() {
    // Four places have 17 memories: two components with ten each can't have them at once.
    let bench = Bench::new();
    let instances = "(core instance (instantiate $m))".repeat(10);
    let wasm = wat::parse_str(format!("(component (core module $m (memory 1)) {instances})")).unwrap();
    let wasm = Bytes::from(wasm);
    let compiled = bench.sandbox.compile(wasm.clone()).await.unwrap().compiled;
    let loads = (0..16).map(|_| {
        let (sandbox, wasm) = (bench.sandbox.clone(), wasm.clone());
        tokio::spawn(async move { sandbox.load(&compiled, || Ok(wasm), ALL, MEMORY).await.map(|_| ()) })
    });
    for load in loads.collect::<Vec<_>>() {
        load.await.unwrap().unwrap();
    }
}

#[test]
fn a_worker_ends_with_its_server() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    let worker = env!("CARGO_BIN_EXE_compile-worker");
    // One that has ended before the worker could ask to be told.
    let output =
        Command::new(worker).args(["compile-worker", "1", "1000000000", "1000000", "10"]).output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr).trim(), "the server has ended");
    // One that is killed while the worker waits for its component.
    let script =
        "exec 3<&0; \"$0\" compile-worker $$ 1000000000 1000000 10 <&3 >&2 & echo $!; sleep 1; kill -9 $$";
    let mut server = Command::new("sh")
        .args(["-c", script, worker])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let status = format!("/proc/{}/stat", line.trim());
    let lives = || std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z"));
    assert!(lives(), "it waits for its component");
    server.wait().unwrap();
    let begin = std::time::Instant::now();
    while lives() {
        assert!(begin.elapsed().as_secs() < 30, "the worker outlives its server");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_nesting_is_refused_before_anything_follows_it() {
    let bench = Bench::new();
    let nested = |levels: usize| {
        // Section 4 is a component within; the text format's parser wouldn't go as deep.
        let header = b"\0asm\x0d\0\x01\0";
        let wasm = (1..levels).fold(header.to_vec(), |inside, _| {
            let mut length = inside.len();
            let mut bytes = [header.as_slice(), &[4]].concat();
            while length > 0x7f {
                bytes.push(length as u8 | 0x80);
                length >>= 7;
            }
            bytes.push(length as u8);
            [bytes, inside].concat()
        });
        bench.sandbox.compile(wasm.into())
    };
    nested(33).await.unwrap();
    for levels in [34, 100_000] {
        let error = nested(levels).await.unwrap_err();
        assert!(
            matches!(&error, CompileError::Refused(Refusal::TooLarge(text)) if text.contains("32 levels")),
            "{error}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_is_confined_where_the_kernel_can() {
    let bench = Bench::new();
    assert_eq!(bench.sandbox.confines_compiler(), None, "nothing was compiled yet");
    bench.sandbox.compile(Guest::readings("").build().into()).await.unwrap();
    let confines = bench.sandbox.confines_compiler();
    assert_eq!(confines, Some(can_confine()), "Landlock of this kernel, and what the worker made of it");
}

/// Whether this kernel has all of Landlock that the worker asks for (Linux 6.12).
fn can_confine() -> bool {
    let ruleset = || {
        Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(AccessFs::from_all(ABI::V6))?
            .handle_access(AccessNet::from_all(ABI::V6))?
            .scope(Scope::from_all(ABI::V6))?
            .create()
    };
    ruleset().is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_traps_is_found_at_install() {
    let bench = Bench::new();
    let guest = Guest::readings("").with("(func $start unreachable) (start $start)");
    let error = refusal(bench.try_install(guest.build(), ALL).await);
    assert!(error.contains("can't be started"), "{error}");
    let guest = Guest::readings("").with("(func $start (loop $l (br $l))) (start $start)");
    // On a busy machine the wall comes first.
    let error = refusal(bench.try_install(guest.build(), ALL).await);
    assert!(error.contains("`limits.cpu`"), "{error}");
    let guest = Guest::readings("").with("(memory 1000)");
    let error = refusal(bench.try_install(guest.build(), ALL).await);
    assert!(error.contains("memory"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_the_wrong_type_is_found_at_install() {
    let bench = Bench::new();
    let wasm = wat::parse_str(
        r#"(component
             (core module $m (func (export "f")))
             (core instance $i (instantiate $m))
             (func $f (canon lift (core func $i "f")))
             (instance $e (export "consume" (func $f)))
             (export "ironloom:feeds/readings@0.1.0" (instance $e)))"#,
    )
    .unwrap();
    let error = refusal(bench.try_install(wasm, ALL).await);
    let words = "the app was built against other interfaces than this ironloom's: its export ironloom:feeds/readings has another type: ";
    assert!(error.starts_with(words), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_that_is_not_its_own_is_never_loaded() {
    let bench = Bench::new();
    let wasm = Bytes::from(Guest::readings("").build());
    let compiled = bench.sandbox.compile(wasm.clone()).await.unwrap().compiled;
    let load = async |compiled: &CompiledRef| {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (wasm, told) = (wasm.clone(), asked.clone());
        let source = move || {
            told.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok(wasm)
        };
        let loaded = bench.sandbox.load(compiled, source, ALL, MEMORY).await.unwrap();
        (loaded.compiled, asked.load(std::sync::atomic::Ordering::SeqCst))
    };
    assert_eq!(load(&compiled).await, (compiled, false), "sound code is used");

    let file = bench.cached_files().remove(0);
    let mut code = std::fs::read(&file).unwrap();
    let at = code.len() / 2;
    code[at] ^= 1;
    std::fs::write(&file, &code).unwrap();
    assert_eq!(load(&compiled).await, (compiled, true), "changed code is compiled again");
    assert_eq!(load(&compiled).await, (compiled, false));

    std::fs::remove_file(&file).unwrap();
    assert_eq!(load(&compiled).await, (compiled, true), "missing code is compiled again");

    let other = CompiledRef { engine: ironloom_types::ids::Digest::of(b"another engine"), ..compiled };
    assert_eq!(load(&other).await, (compiled, true), "another engine's code is compiled again");

    let error = bench
        .sandbox
        .load(&other, || Ok("something else".into()), ALL, MEMORY)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("not the component that was installed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_nobody_needs_is_removed() {
    let bench = Bench::new();
    let kept = bench.sandbox.compile(Guest::readings("").build().into()).await.unwrap().compiled;
    bench.sandbox.compile(Guest::timers("").build().into()).await.unwrap();
    assert_eq!(bench.cached_files().len(), 2);
    bench.sandbox.retain(&[kept]).unwrap();
    assert_eq!(bench.cached_files().len(), 1);
    let loaded = bench.sandbox.load(&kept, || Err(std::io::Error::other("not asked")), ALL, MEMORY).await;
    assert_eq!(loaded.unwrap().compiled, kept);
}
