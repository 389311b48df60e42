//! `ironloom serve --check`: what would keep a server from starting, all of it at once. Nothing is changed: no folder is
//! made, and a server that runs on the same folder doesn't notice.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use rustix::fs::{Access, access};

use super::Serve;
use crate::api::tls::Certificate;
use crate::backup::refuse_cut_off;
use crate::catalogs::registry;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::output;
use crate::config::Config;
use ironloom_storage::free_bytes;
use ironloom_storage::log::is_segment;
use ironloom_storage::store::{DataLock, EngineKind, engine_in};
use ironloom_types::clock::host_time;

/// Lines for people.
#[derive(Debug, Default)]
struct Findings {
    /// Things that are as they should be.
    sound: Vec<String>,
    /// Things that keep a server from starting, or a connector from reading.
    problems: Vec<String>,
}

/// Looks at everything, and fails where something is wrong.
pub(super) fn check(serve: &Serve) -> Outcome {
    let mut found = Findings::default();
    let config = match serve.load_config(&serve.source()) {
        Ok(config) => Some(config),
        Err(Failure::File(problems)) => {
            found.problems.push(problems);
            None
        }
        Err(Failure::Other(unreadable)) => {
            found.problems.push(unreadable.to_string());
            None
        }
        Err(other) => return Err(other),
    };
    if let Some(config) = &config {
        let name =
            serve.config.as_ref().map_or_else(|| "the default configuration".to_owned(), |path| shown(path));
        match serve.address_problem(config) {
            Some(problem) => found.problems.push(problem),
            None => found.sound.push(format!("{name} has no errors")),
        }
        match config.server.tls.as_ref().map(Certificate::read) {
            None => {}
            Some(Err(problem)) => found.problems.push(problem),
            Some(Ok(certificate)) => {
                let ends = || format!("the certificate ends on {}", certificate.until());
                found.sound.push(certificate.note(host_time()).unwrap_or_else(ends));
                found.sound.extend(certificate.not_for(&config.server.hosts));
            }
        }
    }
    let holder = check_data(&serve.data, config.as_ref(), &mut found);
    if let Some(config) = &config {
        check_address(config.server.listen, holder.as_deref(), &mut found);
        check_connectors(config, &mut found);
        found.problems.extend(registry::check_files(&config.catalogs).err());
    }
    output::print(&found.sound.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    if found.problems.is_empty() { Ok(()) } else { Err(Failure::File(found.problems.join("\n"))) }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Looks at the data folder, and returns who has it.
fn check_data(data: &Path, config: Option<&Config>, found: &mut Findings) -> Option<String> {
    let folder = data.display();
    // The nearest that is there: a start makes those below it.
    let there = data.ancestors().find(|path| !path.as_os_str().is_empty() && path.exists());
    let there = there.unwrap_or(Path::new("."));
    if !there.is_dir() {
        found
            .problems
            .push(format!("{}: is not a folder; --data names one for the server's data", there.display()));
        return None;
    }
    if let Err(error) = access(there, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        found.problems.push(format!(
            "{}: this user may not read and write it ({error}); give it to the user that the server runs as",
            there.display()
        ));
        return None;
    }
    let holder = match DataLock::holder(data) {
        Ok(holder) => holder,
        Err(error) => {
            found.problems.push(error.to_string());
            None
        }
    };
    let engine = engine_in(&data.join("store"));
    if let Some(config) = config {
        check_engine(data, engine, config.store.engine, found);
        let reserve = config.store.reserve;
        if let Some(free) = free_bytes(there).filter(|free| *free < reserve.0) {
            found.problems.push(format!(
                "{folder}: {} MiB are free on its disk, and `store.reserve` keeps {reserve} free: nothing would be \
                 taken; free space, or lower `store.reserve`",
                free >> 20
            ));
        }
    }
    let has_log = has_segments(&data.join("log"));
    match (engine, &holder) {
        (_, Some(holder)) => found.sound.push(format!("{folder} is in use by {holder}")),
        (_, None) if let Err(cut_off) = refuse_cut_off(data) => found.problems.push(cut_off.to_string()),
        (Some(_), None) if !has_log => found.problems.push(format!(
            "{folder}: its store is there and its log is gone; restore the folder from a backup"
        )),
        (None, None) if has_log => found.problems.push(format!(
            "{folder}: its log is there and its store is gone; restore the folder from a backup"
        )),
        (Some(engine), None) => found.sound.push(format!(
            "{folder} has data, in {}; `ironloom store check` looks at all of it",
            engine.name()
        )),
        (None, None) => found.sound.push(format!("{folder} has no data yet")),
    }
    holder
}

/// Whether a folder has segments of a log.
fn has_segments(log: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(log) else { return false };
    entries.flatten().any(|entry| entry.file_name().to_str().is_some_and(is_segment))
}

fn check_engine(data: &Path, has: Option<EngineKind>, asked: EngineKind, found: &mut Findings) {
    if let Some(has) = has.filter(|has| *has != asked) {
        found.problems.push(format!(
            "{}: its store is of the engine {}, and `store.engine` is {}; set it to {}",
            data.display(),
            has.name(),
            asked.name(),
            has.name()
        ));
    }
}

/// A port that is taken is the running server's own, as far as can be told, where one has the data folder.
fn check_address(listen: SocketAddr, holder: Option<&str>, found: &mut Findings) {
    match (TcpListener::bind(listen), holder) {
        (Ok(_), _) => found.sound.push(format!("{listen} is free")),
        (Err(error), Some(holder)) if error.kind() == std::io::ErrorKind::AddrInUse => {
            found.sound.push(format!("{listen} is taken, as it should be if {holder} listens there"));
        }
        (Err(error), _) => found.problems.push(format!(
            "can't listen on {listen}: {error}; stop whoever has it, or name another address by `server.listen` or \
             --listen"
        )),
    }
}

fn check_connectors(config: &Config, found: &mut Findings) {
    for (name, connector) in &config.connectors {
        match connector.check() {
            Ok(()) if connector.is_remote() => found.sound.push(format!(
                "connector {name} is set for {}; `ironloom connector test {name}` tries it",
                connector.source()
            )),
            Ok(()) => found.sound.push(format!("connector {name} can read {}", connector.source())),
            Err(problem) => found.problems.push(format!("connectors.{name}: {problem}")),
        }
    }
}
