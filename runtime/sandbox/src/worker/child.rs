//! The worker's own side: limits, then compiles.

use std::borrow::Cow;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use wasmtime::Engine;
use wasmtime::component::Component;

use super::{Found, MAX_FOUND, Refusal};
use crate::canonical_nan::Problem;
use crate::confine::{Confinement, lock_in};
use crate::engine::{Allocator, Compiled, TABLE_ELEMENTS};
use crate::{canonical_nan, engine};
use ironloom_types::limits::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_PACKAGE, MAX_TABLES};

/// The section into which the SDK writes its version.
const SDK_SECTION: &str = "ironloom-sdk";
/// The longest version. What is longer wasn't written by the SDK.
const MAX_SDK_VERSION: usize = 64;
/// The deepest nesting of components. Toolchains make two levels; compilers recurse over them.
const MAX_DEPTH: usize = 32;
/// Descriptors that a worker may have: its three pipes, and what the engine opens for itself.
const MAX_DESCRIPTORS: u64 = 32;

/// The task of a worker that doesn't compile.
pub(super) const LOOK: &str = "look";
/// The task of one that leaves the code as it is.
pub(super) const WITH_LINES: &str = "compile-with-lines";

/// Runs the worker: `main` calls this before it does anything else.
pub fn compile_worker() -> ExitCode {
    match work() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

type Failed = Box<dyn std::error::Error>;

fn work() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(2);
    let mut number =
        || -> Result<u64, Failed> { Ok(arguments.next().ok_or("a worker is told its limits")?.parse()?) };
    let (server, memory, code_limit, cpu) = (number()?, number()?, number()?, number()?);
    let task = arguments.next().unwrap_or_default();
    let compiled = if task == WITH_LINES { Compiled::WithLines } else { Compiled::Rewritten };
    // What comes next reads bytes that nobody vouches for.
    let (file, descriptors, nice) = (code_limit, MAX_DESCRIPTORS, 10);
    Confinement { server, memory, cpu, file, descriptors, threads: false, nice, idle: false }.limit()?;
    // The engine looks at files of the kernel; from then on there are none.
    let engine = if task == LOOK { None } else { Some(engine::engine(1, Allocator::Pool, compiled)?) };
    let confined = lock_in()?;

    let mut wasm = Vec::new();
    std::io::stdin().lock().take(MAX_PACKAGE as u64 + 1).read_to_end(&mut wasm)?;
    let done = match &engine {
        Some(engine) => compile_here(engine, &wasm, compiled),
        None => look_here(&wasm).map(|found| (found, Vec::new())),
    };
    let (found, code) = match done {
        Ok((_, code)) if code.len() as u64 > code_limit => {
            (Err(Refusal::too_much_code(code_limit)), Vec::new())
        }
        Ok((found, code)) => (Ok(Found { confined, ..found }), code),
        Err(refusal) => (Err(refusal), Vec::new()),
    };
    let mut found = serde_json::to_vec(&found)?;
    if found.len() > MAX_FOUND {
        let refusal = Refusal::TooLarge(format!("its imports and exports take {} bytes", found.len()));
        found = serde_json::to_vec(&Err::<Found, _>(refusal))?;
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&code)?;
    stdout.flush()?;
    std::io::stderr().write_all(&found)?;
    Ok(())
}

/// Validates, lists and compiles.
pub(super) fn compile_here(
    engine: &Engine,
    wasm: &[u8],
    compiled: Compiled,
) -> Result<(Found, Vec<u8>), Refusal> {
    check_kind(wasm)?;
    let rewritten = match compiled {
        Compiled::Rewritten => canonical_nan::rewrite(wasm).map(Cow::Owned),
        Compiled::WithLines => Ok(Cow::Borrowed(wasm)),
    };
    // What can't be rewritten is compiled all the same: where it isn't valid, the engine says best why.
    let component =
        Component::from_binary(engine, rewritten.as_deref().unwrap_or(wasm)).map_err(|error| {
            let text = format!("{error:#}");
            if text.contains("exceeds the configured maximum") || text.contains("pooling allocator") {
                Refusal::TooLarge(format!("{} ({text})", most_parts()))
            } else {
                Refusal::Invalid(text)
            }
        })?;
    match rewritten {
        Ok(_) => {}
        Err(problem @ (Problem::Function(_) | Problem::TooLarge)) => {
            return Err(Refusal::TooLarge(problem.to_string()));
        }
        Err(problem) => return Err(Refusal::Invalid(problem.to_string())),
    }
    let kind = component.component_type();
    let imports = kind.imports(engine).map(|(name, _)| name.to_owned()).collect();
    let exports = kind.exports(engine).map(|(name, _)| name.to_owned()).collect();
    let code = component.serialize().map_err(|error| Refusal::Invalid(format!("{error:#}")))?;
    let found = Found {
        imports,
        exports,
        sdk_version: sdk_version(wasm),
        code_bytes: code.len() as u64,
        confined: false,
    };
    Ok((found, code))
}

/// Refuses what isn't a component, and says what it is instead.
fn check_kind(wasm: &[u8]) -> Result<(), Refusal> {
    if Engine::detect_precompiled(wasm).is_some() {
        return Err(Refusal::Precompiled);
    }
    if wasmparser::Parser::is_core_wasm(wasm) {
        return Err(Refusal::CoreModule);
    }
    if !wasmparser::Parser::is_component(wasm) {
        return Err(Refusal::NotWasm);
    }
    check_depth(wasm)
}

/// Checks a component without compiling it.
fn look_here(wasm: &[u8]) -> Result<Found, Refusal> {
    check_kind(wasm)?;
    let invalid = |error: wasmparser::BinaryReaderError| Refusal::Invalid(error.to_string());
    wasmparser::validate(wasm).map_err(invalid)?;
    let (imports, exports) = crate::names::names(wasm).map_err(invalid)?;
    Ok(Found { imports, exports, sdk_version: sdk_version(wasm), code_bytes: 0, confined: false })
}

/// Refuses components that are nested more deeply than any toolchain makes them.
fn check_depth(wasm: &[u8]) -> Result<(), Refusal> {
    let mut depth = 0_usize;
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        match payload {
            Ok(wasmparser::Payload::ComponentSection { .. } | wasmparser::Payload::ModuleSection { .. }) => {
                depth += 1;
                if depth > MAX_DEPTH {
                    let text = format!("its components are nested more than {MAX_DEPTH} levels deep");
                    return Err(Refusal::TooLarge(text));
                }
            }
            Ok(wasmparser::Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(_) => {}
            Err(error) => return Err(Refusal::Invalid(error.to_string())),
        }
    }
    Ok(())
}

fn most_parts() -> String {
    format!(
        "it may have {MAX_CORE_INSTANCES} core instances, {MAX_MEMORIES} memories, {MAX_TABLES} tables, one memory \
         and one table in each module, and {TABLE_ELEMENTS} elements in a table"
    )
}

/// The version that the SDK wrote into the module within the component.
fn sdk_version(wasm: &[u8]) -> Option<String> {
    for payload in wasmparser::Parser::new(0).parse_all(wasm) {
        if let Ok(wasmparser::Payload::CustomSection(section)) = payload
            && section.name() == SDK_SECTION
        {
            return std::str::from_utf8(section.data())
                .ok()
                .map(|text| text.trim_end_matches('\0').to_owned())
                .filter(|version| version.len() <= MAX_SDK_VERSION);
        }
    }
    None
}
