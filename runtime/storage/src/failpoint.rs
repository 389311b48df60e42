//! Steps at which a test may end the process: the way `kill -9` does, so that nothing is unwound, dropped or
//! flushed. `FAILPOINTS=step` ends it when it comes to that step, `FAILPOINTS=step@3` when it has passed it
//! three times; `FAILPOINTS=step=hold` has it wait there for ever. Without the feature `failpoints` nothing of it is compiled.

/// Marks a step at which a test may end the process.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub fn failpoint(_step: &str) {}

/// Ends the process, or waits for ever, where the environment names this step.
#[cfg(feature = "failpoints")]
pub fn failpoint(step: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Asked {
        step: String,
        passes: AtomicU64,
        holds: bool,
    }

    static ASKED: LazyLock<Option<Asked>> = LazyLock::new(|| {
        let asked = std::env::var("FAILPOINTS").ok()?;
        let (asked, holds) = asked.strip_suffix("=hold").map_or((&*asked, false), |asked| (asked, true));
        let (step, passes) = asked.split_once('@').unwrap_or((asked, "0"));
        Some(Asked { step: step.to_owned(), passes: AtomicU64::new(passes.parse().ok()?), holds })
    });
    let Some(Asked { step: asked, passes: left, holds }) = &*ASKED else { return };
    if asked == step && *holds {
        loop {
            std::thread::park();
        }
    }
    let passes = |left: u64| left.checked_sub(1);
    if asked == step && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, passes).is_err() {
        // If this fails, the process goes on, and the test that waits for its end reports it.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    }
}
