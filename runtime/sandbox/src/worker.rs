//! The compile worker: a subprocess that limits itself before it reads the first byte of an app, so
//! that no component, however it was made, can take more than itself down.
//!
//! It is `ironloom` itself under a hidden subcommand. A component comes on its stdin. Compiled code goes to its
//! stdout, which is a file; what was found, or why not, goes to its stderr as JSON. This is the server's side of
//! it, [`child`] the worker's own.

mod child;

use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub use self::child::compile_worker;
use super::engine::Compiled;
use ironloom_types::limits::MAX_PACKAGE;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "compile-worker";
/// The longest text of what was found.
const MAX_FOUND: usize = 4 << 20;

/// What a compilation may use. The defaults leave room for the largest components there are (a
/// Python interpreter: 18 MB, 12 s) on a slow machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of compiled code.
    pub code: u64,
    /// Time of the CPU, in whole seconds.
    pub cpu: Duration,
    /// Time on the wall.
    pub wall: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self {
            memory: 2 << 30,
            code: 256 << 20,
            cpu: Duration::from_secs(120),
            wall: Duration::from_secs(300),
        }
    }
}

/// The reason why this host doesn't run a component.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// A module where a component should be.
    #[error(
        "this is a core WebAssembly module, not a component: build the app with `--target wasm32-wasip2`"
    )]
    CoreModule,
    /// The output of a compiler for one machine.
    #[error(
        "this is compiled code; a package holds the WebAssembly component that the code was compiled from"
    )]
    Precompiled,
    /// Bytes of no kind that is known here.
    #[error(
        "this is not a WebAssembly component: it doesn't begin with the bytes `\\0asm` and a component's version"
    )]
    NotWasm,
    /// It starts correctly, but isn't valid.
    #[error("the component is not valid: {0}")]
    Invalid(String),
    /// It has more parts than an invocation's place in the pool.
    #[error("the component is too large for this host: {0}")]
    TooLarge(String),
}

impl Refusal {
    fn too_much_code(limit: u64) -> Self {
        Self::TooLarge(format!("its compiled code has more than {} MiB", limit >> 20))
    }
}

/// The reason why there is no compiled code.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The component is to blame.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It is larger than any package may be.
    #[error("the component has {0} bytes; at most {MAX_PACKAGE} are allowed")]
    TooBig(usize),
    /// It took too long.
    #[error("compiling the component took longer than {} s", .0.as_secs())]
    Time(Duration),
    /// It took too much memory.
    #[error("compiling the component took more than {} MiB of memory", .0 >> 20)]
    Memory(u64),
    /// The worker didn't do its work.
    #[error("the compile worker failed: {0}")]
    Worker(String),
}

/// The worker's findings.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub sdk_version: Option<String>,
    pub code_bytes: u64,
    /// The kernel keeps the worker from all files and connections.
    pub confined: bool,
}

/// The part of a component that shows without compiling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surface {
    /// Its imports, with versions.
    pub imports: Vec<String>,
    /// Its exports, with versions.
    pub exports: Vec<String>,
    /// The version of the SDK that it was built with, if any.
    pub sdk_version: Option<String>,
}

/// A worker's task with a component.
enum Task {
    /// Writes its code into this file.
    Compile(File, Compiled),
    /// Only says what it imports and exports.
    Look,
}

impl Task {
    /// As the worker's arguments name it.
    fn name(&self) -> &'static str {
        match self {
            Self::Compile(_, Compiled::Rewritten) => "compile",
            Self::Compile(_, Compiled::WithLines) => child::WITH_LINES,
            Self::Look => child::LOOK,
        }
    }
}

/// Has a worker check a component and list its imports and exports. It isn't compiled, so a fault that only the
/// compiler finds is found at the install.
pub async fn look(worker: &Path, wasm: Bytes) -> Result<Surface, CompileError> {
    let Found { imports, exports, sdk_version, .. } =
        run(worker, CompileLimits::default(), wasm, Task::Look).await?;
    Ok(Surface { imports, exports, sdk_version })
}

/// Has a component compiled by a worker, which writes the code into a file.
pub(super) async fn compile(
    worker: &Path,
    limits: CompileLimits,
    wasm: Bytes,
    code: File,
    compiled: Compiled,
) -> Result<Found, CompileError> {
    run(worker, limits, wasm, Task::Compile(code, compiled)).await
}

async fn run(worker: &Path, limits: CompileLimits, wasm: Bytes, task: Task) -> Result<Found, CompileError> {
    if wasm.len() > MAX_PACKAGE {
        return Err(CompileError::TooBig(wasm.len()));
    }
    let failed = |what: &str, error: std::io::Error| {
        CompileError::Worker(format!("{what} {}: {error}", worker.display()))
    };
    let mut child = tokio::process::Command::new(worker)
        .arg(SUBCOMMAND)
        .arg(std::process::id().to_string())
        .arg(limits.memory.to_string())
        .arg(limits.code.to_string())
        .arg(limits.cpu.as_secs().to_string())
        .arg(task.name())
        .env_clear()
        // No thread of the allocator's: it would have begun before the kernel was asked to confine this one.
        .env("_RJEM_MALLOC_CONF", "background_thread:false")
        .stdin(Stdio::piped())
        .stdout(match task {
            Task::Compile(code, _) => Stdio::from(code),
            Task::Look => Stdio::null(),
        })
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("could not start", error))?;
    let (Some(mut stdin), Some(stderr)) = (child.stdin.take(), child.stderr.take()) else {
        return Err(CompileError::Worker("it has no pipes".to_owned()));
    };

    let talk = async {
        let write = async move {
            // A worker that refuses early closes its end; its answer tells why.
            let _ = stdin.write_all(&wasm).await;
        };
        let mut answer = Vec::new();
        let mut stderr = stderr.take(MAX_FOUND as u64);
        let ((), read) = tokio::join!(write, stderr.read_to_end(&mut answer));
        (read.map(|_| answer), child.wait().await)
    };
    let Ok((answer, status)) = tokio::time::timeout(limits.wall, talk).await else {
        return Err(CompileError::Time(limits.wall));
    };
    let answer = answer.map_err(|error| failed("lost", error))?;
    let status = status.map_err(|error| failed("lost", error))?;
    if !status.success() {
        return Err(death(status, limits, &String::from_utf8_lossy(&answer)));
    }
    let found: Result<Found, Refusal> = serde_json::from_slice(&answer)
        .map_err(|error| CompileError::Worker(format!("its answer makes no sense: {error}")))?;
    Ok(found?)
}

/// Tells from how a worker ended which limit it hit.
fn death(status: ExitStatus, limits: CompileLimits, complaint: &str) -> CompileError {
    use std::os::unix::process::ExitStatusExt;
    if complaint.contains("memory allocation of") || complaint.contains("Cannot allocate memory") {
        return CompileError::Memory(limits.memory);
    }
    match status.signal().and_then(Signal::from_named_raw) {
        Some(Signal::XCPU) => CompileError::Time(limits.cpu),
        Some(Signal::XFSZ) => Refusal::too_much_code(limits.code).into(),
        Some(Signal::SEGV) => Refusal::TooLarge("compiling it takes too much stack".to_owned()).into(),
        Some(Signal::KILL) => CompileError::Worker(
            "the operating system has killed it, most likely because the machine is out of memory".to_owned(),
        ),
        _ => CompileError::Worker(format!("it ended with {status}: {}", complaint.trim())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn how_a_worker_ended_tells_which_limit_it_hit() {
        let of = |signal: Signal, complaint: &str| {
            death(ExitStatus::from_raw(signal.as_raw()), CompileLimits::default(), complaint)
        };
        assert!(matches!(of(Signal::XCPU, ""), CompileError::Time(time) if time.as_secs() == 120));
        assert!(matches!(of(Signal::XFSZ, ""), CompileError::Refused(Refusal::TooLarge(_))));
        assert!(matches!(of(Signal::SEGV, ""), CompileError::Refused(Refusal::TooLarge(_))));
        assert!(matches!(of(Signal::ABORT, "memory allocation of 5 bytes failed"), CompileError::Memory(_)));
        assert!(matches!(of(Signal::KILL, ""), CompileError::Worker(text) if text.contains("out of memory")));
    }
}
