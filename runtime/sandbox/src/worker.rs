//! The compile worker: a subprocess that limits itself before it reads the first byte of an app, so
//! that no component, however it was made, can take more than itself down.
//!
//! It is `ironloom` itself under a hidden subcommand. A component comes on its stdin; on its stdout
//! goes the length of a header, the header as JSON, and the compiled code.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime::Engine;
use wasmtime::component::Component;

use super::{canonical_nan, engine};
use ironloom_types::limits::MAX_PACKAGE;

/// The hidden subcommand.
pub const SUBCOMMAND: &str = "compile-worker";
/// The section into which the SDK writes its version.
const SDK_SECTION: &str = "ironloom-sdk";
/// The longest header that is read, and the most compiled code.
const MAX_HEADER: u32 = 4 << 20;
const MAX_CODE: u64 = 1 << 30;

/// What a compilation may use. The defaults leave room for the largest components there are (a
/// Python interpreter: 18 MB, 12 s) on a slow machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Bytes of memory.
    pub memory: u64,
    /// Time of the CPU, in whole seconds.
    pub cpu: Duration,
    /// Time on the wall.
    pub wall: Duration,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { memory: 2 << 30, cpu: Duration::from_secs(120), wall: Duration::from_secs(300) }
    }
}

/// Why a file is no component that this host runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// A module where a component should be.
    #[error(
        "this is a core WebAssembly module, not a component: build the app with `--target wasm32-wasip2`"
    )]
    CoreModule,
    /// The output of a compiler for one machine.
    #[error("this is compiled code; a package holds the WebAssembly component that it was made from")]
    Precompiled,
    /// Anything else.
    #[error(
        "this is no WebAssembly component: it doesn't begin with the bytes `\\0asm` and a component's version"
    )]
    NotWasm,
    /// It begins well, and has faults.
    #[error("the component is not valid: {0}")]
    Invalid(String),
    /// It has more parts than an invocation's place in the pool.
    #[error("the component is too large for this host: {0}")]
    TooLarge(String),
}

/// Why there is no compiled code.
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

/// What the worker found.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Found {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub sdk_version: Option<String>,
    code_bytes: u64,
}

/// Has a component compiled by a worker.
pub(super) async fn compile(
    worker: &Path,
    limits: CompileLimits,
    wasm: &[u8],
) -> Result<(Found, Vec<u8>), CompileError> {
    if wasm.len() > MAX_PACKAGE {
        return Err(CompileError::TooBig(wasm.len()));
    }
    let failed = |what: &str, error: std::io::Error| {
        CompileError::Worker(format!("{what} {}: {error}", worker.display()))
    };
    let mut child = tokio::process::Command::new(worker)
        .arg(SUBCOMMAND)
        .arg(limits.memory.to_string())
        .arg(limits.cpu.as_secs().to_string())
        .env_clear()
        // The allocator takes memory as it is used: what it reserves would count against the limit of data.
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed("could not start", error))?;
    let (Some(mut stdin), Some(mut stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(CompileError::Worker("it has no pipes".to_owned()));
    };

    let talk = async {
        let write = async move {
            // A worker that refuses early closes its end; its answer tells why.
            let _ = stdin.write_all(wasm).await;
        };
        let read = read_reply(&mut stdout);
        let mut complaint = Vec::new();
        let mut stderr = stderr.take(64 << 10);
        let ((), reply, _) = tokio::join!(write, read, stderr.read_to_end(&mut complaint));
        (reply, child.wait().await, complaint)
    };
    let Ok((reply, status, complaint)) = tokio::time::timeout(limits.wall, talk).await else {
        return Err(CompileError::Time(limits.wall));
    };
    match (reply, status) {
        (Ok(reply), Ok(status)) if status.success() => Ok(reply?),
        (_, Ok(status)) => Err(death(status, limits, &String::from_utf8_lossy(&complaint))),
        (_, Err(error)) => Err(failed("lost", error)),
    }
}

type Reply = Result<(Found, Vec<u8>), Refusal>;

async fn read_reply(stdout: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<Reply> {
    let length = stdout.read_u32_le().await?;
    if length > MAX_HEADER {
        return Err(std::io::Error::other("its header is too long"));
    }
    let mut header = vec![0; length as usize];
    stdout.read_exact(&mut header).await?;
    let found: Found = match serde_json::from_slice(&header)? {
        Ok(found) => found,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut code = Vec::new();
    stdout.take(MAX_CODE).read_to_end(&mut code).await?;
    if code.len() as u64 != found.code_bytes {
        return Err(std::io::Error::other("its compiled code is incomplete"));
    }
    Ok(Ok((found, code)))
}

/// Tells from how a worker ended which limit it hit.
fn death(status: ExitStatus, limits: CompileLimits, complaint: &str) -> CompileError {
    use std::os::unix::process::ExitStatusExt;
    let signal = status.signal();
    let is = |signal_wanted: rustix::process::Signal| signal == Some(signal_wanted.as_raw());
    if is(rustix::process::Signal::XCPU) || is(rustix::process::Signal::KILL) {
        return CompileError::Time(limits.cpu);
    }
    if complaint.contains("memory allocation of") || complaint.contains("Cannot allocate memory") {
        return CompileError::Memory(limits.memory);
    }
    CompileError::Worker(format!("it ended with {status}: {}", complaint.trim()))
}

/// The worker's own side: `main` calls it before it does anything else.
pub fn compile_worker() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn work() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(2);
    let mut number = || -> Result<u64, Box<dyn std::error::Error>> {
        Ok(arguments.next().ok_or("a worker is told its limits")?.parse()?)
    };
    limit_itself(number()?, number()?)?;

    let mut wasm = Vec::new();
    std::io::stdin().lock().take(MAX_PACKAGE as u64 + 1).read_to_end(&mut wasm)?;
    let engine = engine::engine(1)?;
    let result = compile_here(&engine, &wasm);

    let mut stdout = std::io::stdout().lock();
    let (header, code) = match result {
        Ok((found, code)) => (Ok(found), code),
        Err(refusal) => (Err(refusal), Vec::new()),
    };
    let header = serde_json::to_vec(&header)?;
    stdout.write_all(&u32::try_from(header.len())?.to_le_bytes())?;
    stdout.write_all(&header)?;
    stdout.write_all(&code)?;
    stdout.flush()?;
    Ok(())
}

/// Limits this process: what comes next reads bytes that nobody vouches for.
fn limit_itself(memory: u64, cpu: u64) -> std::io::Result<()> {
    let hard = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    // Data, not address space: the pool reserves much of that and touches none.
    setrlimit(Resource::Data, hard(memory))?;
    // The signal comes at the first, the end at the second.
    setrlimit(Resource::Cpu, Rlimit { current: Some(cpu), maximum: Some(cpu + 5) })?;
    setrlimit(Resource::Core, hard(0))?;
    setrlimit(Resource::Fsize, hard(0))?;
    // Whoever serves comes first.
    let _ = rustix::process::nice(10);
    Ok(())
}

/// Validates, lists and compiles.
pub(super) fn compile_here(engine: &Engine, wasm: &[u8]) -> Result<(Found, Vec<u8>), Refusal> {
    if Engine::detect_precompiled(wasm).is_some() {
        return Err(Refusal::Precompiled);
    }
    if wasmparser::Parser::is_core_wasm(wasm) {
        return Err(Refusal::CoreModule);
    }
    if !wasmparser::Parser::is_component(wasm) {
        return Err(Refusal::NotWasm);
    }
    let rewritten = canonical_nan::rewrite(wasm);
    // What can't be rewritten is compiled all the same: where it isn't valid, the engine says best why.
    let component =
        Component::from_binary(engine, rewritten.as_deref().unwrap_or(wasm)).map_err(|error| {
            let text = format!("{error:#}");
            if text.contains("exceeds the configured maximum") || text.contains("pooling allocator") {
                Refusal::TooLarge(text)
            } else {
                Refusal::Invalid(text)
            }
        })?;
    if let Err(problem) = rewritten {
        return Err(Refusal::Invalid(problem.to_string()));
    }
    let kind = component.component_type();
    let imports = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let code = component.serialize().map_err(|error| Refusal::Invalid(format!("{error:#}")))?;
    let found = Found { imports, exports, sdk_version: sdk_version(wasm), code_bytes: code.len() as u64 };
    Ok((found, code))
}

/// What the SDK wrote into the module within the component.
fn sdk_version(wasm: &[u8]) -> Option<String> {
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        if let Ok(wasmparser::Payload::CustomSection(section)) = payload
            && section.name() == SDK_SECTION
        {
            return std::str::from_utf8(section.data())
                .ok()
                .map(|text| text.trim_end_matches('\0').to_owned());
        }
    }
    None
}
