//! What is refused at install, and what the worker and the cache do.

use ironloom_sandbox::*;
use ironloom_types::CompiledRef;

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
    let inspection = bench.sandbox.compile(&guest.build()).await.unwrap();
    assert_eq!(inspection.roles, Roles { readings: true, timers: true, lifecycle: false });
    assert!(inspection.imports.contains(&"ironloom:invocation/invocation@0.1.0".to_owned()));
    assert!(inspection.exports.contains(&"ironloom:feeds/readings@0.1.0".to_owned()));
    assert_eq!(inspection.sdk_version.as_deref(), Some("0.1.0"));
    assert_eq!(bench.cached_files().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_component_is_refused() {
    let bench = Bench::new();
    let compile = async |bytes: &[u8]| bench.sandbox.compile(bytes).await.unwrap_err();
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

    bench.sandbox.compile(&good).await.unwrap();
    let precompiled = std::fs::read(&bench.cached_files()[0]).unwrap();
    assert_eq!(refused(compile(&precompiled).await), Refusal::Precompiled);

    assert!(matches!(compile(&vec![0; (64 << 20) + 1]).await, CompileError::TooBig(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_parts_are_refused() {
    let bench = Bench::new();
    let instances = "(core instance (instantiate $m))".repeat(21);
    let wasm = wat::parse_str(format!("(component (core module $m) {instances})")).unwrap();
    let error = bench.sandbox.compile(&wasm).await.unwrap_err();
    assert!(matches!(error, CompileError::Refused(Refusal::TooLarge(_))), "{error}");
    let instances = "(core instance (instantiate $m))".repeat(11);
    let wasm = wat::parse_str(format!("(component (core module $m (memory 1)) {instances})")).unwrap();
    let error = bench.sandbox.compile(&wasm).await.unwrap_err();
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

    let limits = CompileLimits { cpu: std::time::Duration::from_secs(1), ..CompileLimits::default() };
    let error = sandbox(limits).compile(&wasm).await.unwrap_err();
    assert!(matches!(error, CompileError::Time(_)), "{error}");
    let limits = CompileLimits { wall: std::time::Duration::from_millis(300), ..CompileLimits::default() };
    let error = sandbox(limits).compile(&wasm).await.unwrap_err();
    assert!(matches!(error, CompileError::Time(_)), "{error}");
    let limits = CompileLimits { memory: 24 << 20, ..CompileLimits::default() };
    let error = sandbox(limits).compile(&wasm).await.unwrap_err();
    assert!(matches!(error, CompileError::Memory(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_worker_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let config = SandboxConfig::new(folder.path().to_owned(), folder.path().join("nothing"));
    let error = Sandbox::new(config).unwrap().compile(b"").await.unwrap_err().to_string();
    assert!(error.contains("could not start"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn undeclared_imports_are_refused_by_name() {
    let bench = Bench::new();
    let raise = Guest::readings("").import(
        "ironloom:alarms/alarms@0.1.0",
        "raise",
        "$raise (param i32 i32 i32 i32 i32 i32 i32)",
    );
    let raise = raise.with("(func $use (call $raise (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 64)))");
    let error = refusal(bench.try_install(&raise.build(), &Declared { alarms: false, ..ALL }).await);
    assert!(error.contains("ironloom:alarms/alarms@0.1.0") && error.contains("[alarms."), "{error}");
    assert!(bench.try_install(&raise.build(), &ALL).await.is_ok());

    let cancel =
        Guest::readings("").import("ironloom:timers/schedule@0.1.0", "cancel", "$cancel (param i32 i32 i32)");
    let cancel = cancel.with("(func $use (call $cancel (i32.const 0) (i32.const 0) (i32.const 64)))");
    let error = refusal(bench.try_install(&cancel.build(), &ALL).await);
    assert!(error.contains("ironloom:timers/schedule@0.1.0") && error.contains("schedule = true"), "{error}");

    let http =
        Guest::readings("(call $handle)").import("wasi:http/outgoing-handler@0.2.0", "handle", "$handle");
    let error = refusal(bench.try_install(&http.build(), &ALL).await);
    assert!(error.contains("wasi:http/outgoing-handler@0.2.0"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_and_manifest_must_fit() {
    let bench = Bench::new();
    let error = refusal(bench.try_install(&Guest::none().build(), &ALL).await);
    assert!(error.contains("no role"), "{error}");
    let error = refusal(bench.try_install(&Guest::timers("").build(), &ALL).await);
    assert!(error.contains("inputs"), "{error}");
    let error = refusal(bench.try_install(&Guest::readings("").and_timers("").build(), &ALL).await);
    assert!(error.contains("`timers`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_traps_is_found_at_install() {
    let bench = Bench::new();
    let guest = Guest::readings("").with("(func $start unreachable) (start $start)");
    let error = refusal(bench.try_install(&guest.build(), &ALL).await);
    assert!(error.contains("can't be started"), "{error}");
    let guest = Guest::readings("").with("(func $start (loop $l (br $l))) (start $start)");
    let error = refusal(bench.try_install(&guest.build(), &ALL).await);
    assert!(error.contains("CPU"), "{error}");
    let guest = Guest::readings("").with("(memory 1000)");
    let error = refusal(bench.try_install(&guest.build(), &ALL).await);
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
    assert!(!refusal(bench.try_install(&wasm, &ALL).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn compiled_code_that_is_not_its_own_is_never_loaded() {
    let bench = Bench::new();
    let wasm = Guest::readings("").build();
    let compiled = bench.sandbox.compile(&wasm).await.unwrap().compiled;
    let load = async |compiled: &CompiledRef| {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (wasm, told) = (wasm.clone(), asked.clone());
        let source = move || {
            told.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok(wasm)
        };
        let loaded = bench.sandbox.load(compiled, source, &ALL).await.unwrap();
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

    let error =
        bench.sandbox.load(&other, || Ok(b"something else".to_vec()), &ALL).await.unwrap_err().to_string();
    assert!(error.contains("not the one that was installed"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_nobody_needs_is_removed() {
    let bench = Bench::new();
    let kept = bench.sandbox.compile(&Guest::readings("").build()).await.unwrap().compiled;
    bench.sandbox.compile(&Guest::timers("").build()).await.unwrap();
    assert_eq!(bench.cached_files().len(), 2);
    bench.sandbox.retain(&[kept]).unwrap();
    assert_eq!(bench.cached_files().len(), 1);
    let loaded = bench.sandbox.load(&kept, || Err(std::io::Error::other("not asked")), &ALL).await;
    assert_eq!(loaded.unwrap().compiled, kept);
}
