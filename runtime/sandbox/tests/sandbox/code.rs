//! Code that is let go, and loaded again.

use std::time::Duration;

use ironloom_sandbox::*;

use crate::guest::Guest;
use crate::harness::{Bench, batch, env};

/// Two apps of different code.
fn guests() -> [Guest; 2] {
    [Guest::readings("(nop)"), Guest::readings("(nop) (nop)")]
}

#[tokio::test(flavor = "multi_thread")]
async fn two_apps_take_turns_where_there_is_room_for_the_code_of_one() {
    let roomy = Bench::new();
    let mut most = 0;
    for guest in guests() {
        let alone = Bench::new();
        let _app = alone.install(&guest).await;
        most = alone.sandbox.code().bytes.max(most);
    }
    let bench = Bench::with(|config| SandboxConfig { code: most, ..config });
    for (bench, loads, apps) in [(&bench, 8, 1), (&roomy, 2, 2)] {
        let [one, two] = guests();
        let installed = [bench.install(&one).await, bench.install(&two).await];
        for _ in 0..3 {
            for app in &installed {
                let report = bench.consume(app, &batch(3), env()).await;
                assert_eq!(report.outcome, Outcome::Ok);
                let code = bench.sandbox.code();
                assert_eq!(code.apps, apps, "{code:?}");
            }
        }
        // The first of each round finds that the other has taken its place, and so does the second.
        assert_eq!(bench.sandbox.code().loads, loads);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn code_that_nobody_calls_goes_and_comes_back_for_all_that_wait_for_it() {
    let bench = Bench::new();
    let app = bench.install(&Guest::readings("(nop)")).await;
    bench.sandbox.let_go_unused(Duration::from_secs(3_600));
    assert_eq!(bench.sandbox.code().apps, 1);
    bench.sandbox.let_go_unused(Duration::ZERO);
    assert_eq!(bench.sandbox.code(), CodeFigures { apps: 0, bytes: 0, loads: 1 });
    let batch = batch(3);
    let call = async || bench.consume(&app, &batch, env()).await.outcome;
    assert_eq!(tokio::join!(call(), call(), call()), (Outcome::Ok, Outcome::Ok, Outcome::Ok));
    assert_eq!(bench.sandbox.code().loads, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_whose_code_is_gone_from_the_cache_says_so_until_it_is_compiled_again() {
    let bench = Bench::new();
    let guest = Guest::readings("(nop)");
    let app = bench.install(&guest).await;
    bench.sandbox.let_go_unused(Duration::ZERO);
    std::fs::remove_file(&bench.cached_files()[0]).unwrap();
    let outcome = bench.consume(&app, &batch(3), env()).await.outcome;
    assert!(matches!(&outcome, Outcome::HostFault(text) if text.contains("compiled again")), "{outcome}");
    assert!(app.is_lost());
    let again = bench.install(&guest).await;
    assert!(std::sync::Arc::ptr_eq(&app, &again) && !app.is_lost());
    assert_eq!(bench.consume(&app, &batch(3), env()).await.outcome, Outcome::Ok);
}
