//! `ironloom serve`.

mod check;
mod notify;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::failure::{Failure, Line, Outcome};
use super::output;
use crate::api::facade::{Facade, Reloaded};
use crate::api::guard::Guard;
use crate::api::host::{AdminToken, NodeOptions, Start, StartError};
use crate::api::server::Bounds;
use crate::api::tls::{Certificate, Tls};
use crate::api::{Api, Site, server};
use crate::aside::aside;
use crate::config::{Config, Server, Source, SourceError};
use crate::telemetry::{LogFilter, Telemetry, start_logging};
use ironloom_sandbox::Compiled;
use ironloom_types::clock::{self, host_time};

/// Runs the server until it is stopped.
#[derive(Args, Debug)]
pub(super) struct Serve {
    /// The configuration file; default: all defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder, created if it doesn't exist
    #[arg(long, value_name = "DIR", default_value = "./ironloom-data")]
    data: PathBuf,
    /// The address of the API, overriding the configuration; port 0 picks a free port
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Listen on an address that isn't loopback though there is no TLS, so that tokens and readings cross the network in
    /// clear, or though nobody needs a token
    #[arg(long)]
    insecure_bind: bool,
    /// Let packages be installed that nobody has signed, as `[policy] unsigned` does
    #[arg(long)]
    allow_unsigned: bool,
    /// Make the token of a platform-admin anew, in the place of one that was lost
    #[arg(long)]
    new_admin_token: bool,
    /// Print a configuration with every key and its default, and exit
    #[arg(long)]
    print_default_config: bool,
    /// Look for whatever would keep the server from starting, print all of it, and exit: nothing is started or changed
    #[arg(long)]
    check: bool,
}

/// Worker threads for each core. As many apps as there are cores run at once, each for up to 10 ms; all other tasks
/// find a thread meanwhile.
const WORKERS_PER_CORE: usize = 2;
/// Polls of tasks after which a worker looks for connections and for tasks of others. Tokio's 61 would be 610 ms where
/// each poll is an app's.
const POLLS_PER_LOOK: u32 = 1;
/// The time for the answers to those who wait, after log or store have failed.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// The time for tasks that can't be stopped at the end.
const LAST_TASKS: Duration = Duration::from_secs(2);

impl Serve {
    pub(super) fn run(self, start: Start) -> Outcome {
        if self.print_default_config {
            return output::print(&Config::documented());
        }
        if self.check {
            return check::check(&self);
        }
        let source = self.source();
        let config = self.load_config(&source)?;
        let log = start_logging(config.server.log.clone());
        self.check_address(&config)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS_PER_CORE * cores)
            .event_interval(POLLS_PER_LOOK)
            .global_queue_interval(POLLS_PER_LOOK)
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(self.serve(config, source, log, start));
        runtime.shutdown_timeout(LAST_TASKS);
        outcome
    }

    /// The source of the configuration, however the working folder changes.
    fn source(&self) -> Source {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let file = self.config.as_ref().map(absolute);
        Source { file, listen: self.listen, allow_unsigned: self.allow_unsigned }
    }

    fn load_config(&self, source: &Source) -> Result<Config, Failure> {
        source.read().map_err(|error| match error {
            // As the user wrote it.
            SourceError::Wrong { problems, path } => {
                Failure::File(problems.of_file(self.config.as_deref().unwrap_or(&path)))
            }
            unreadable @ SourceError::Unreadable { .. } => Failure::Other(unreadable.into()),
        })
    }

    fn check_address(&self, config: &Config) -> Outcome {
        if let Some(problem) = self.address_problem(config) {
            return Err(Failure::Misuse(problem));
        }
        for warning in warnings(config) {
            tracing::warn!("{warning}");
        }
        Ok(())
    }

    /// Why the server must not listen where it is asked to.
    fn address_problem(&self, config: &Config) -> Option<String> {
        let listen = config.server.listen;
        if listen.ip().is_loopback() {
            return None;
        }
        if !self.insecure_bind && config.server.tls.is_none() {
            return Some(format!(
                "{listen} isn't loopback, and there is no [server.tls] certificate: tokens and readings would cross the \
                 network in the clear. Name a certificate and its key, listen on 127.0.0.1 behind a proxy, or pass \
                 --insecure-bind"
            ));
        }
        if !self.insecure_bind && !config.server.tokens.requires(listen) {
            return Some(format!(
                "{listen} isn't loopback, and [server] tokens = \"optional\" lets whoever reaches it do everything. \
                 Write \"auto\" or \"required\", or pass --insecure-bind"
            ));
        }
        let feed = config.site.clock == clock::Source::Feed;
        feed.then(|| format!("[site] clock = \"feed\" needs a loopback address, not {listen}"))
    }

    fn options(
        &self,
        config: Config,
        source: Source,
        telemetry: Arc<Telemetry>,
        tls: Option<Arc<Tls>>,
    ) -> NodeOptions {
        let data = self.data.clone();
        let warnings = warnings(&config);
        let admin_token = if self.new_admin_token { AdminToken::Anew } else { AdminToken::Missing };
        let (throwaway, by_steps, compiled) = (false, false, Compiled::Rewritten);
        NodeOptions {
            config,
            data,
            warnings,
            admin_token,
            throwaway,
            by_steps,
            compiled,
            telemetry,
            tls,
            source,
        }
    }

    async fn serve(&self, config: Config, source: Source, log: LogFilter, start: Start) -> Outcome {
        // Before anybody is told that the server runs, and may end it.
        let mut signals = Signals::new()?;
        // Before the node is started, which may take a while: a port that is taken is told at once.
        let listen = config.server.listen;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
        let listen = listener.local_addr()?;
        let tls = tls(&config.server)?;
        let guard = guard(&config.server, listen);
        let (bounds, rates) = (Bounds::of(&config.server), config.server.rates);
        let url = format!("{}://{listen}", if tls.is_some() { "https" } else { "http" });
        let telemetry = Telemetry::new(log);
        let metrics = telemetry.metrics.clone();
        let options = self.options(config, source, telemetry, tls.clone());
        notify::opening();
        // The node reads the log and may wait for the disk; it is within the runtime, not on it.
        let started = tokio::select! {
            started = aside(move || start(options)) => started.context("the server's start was interrupted")?,
            () = signals.stop() => {
                tracing::info!("stops before it was ready");
                notify::stopping();
                // The start goes on until the process ends, and is as good as killed.
                return Ok(());
            }
        };
        let node = started.map_err(unstarted)?;
        let (stop, stopping) = watch::channel(false);
        let api = Api::new(Arc::clone(&node).facade(), guard, rates, metrics);
        let server = tokio::spawn(server::serve(listener, Site::new(api), bounds, tls, stopping));
        match output::print(&format!("listening on {url}\n")) {
            // Nobody reads it; the server runs all the same.
            Err(Failure::ReaderGone) => {}
            printed => printed?,
        }
        let data = std::path::absolute(&self.data).unwrap_or_else(|_| self.data.clone());
        tracing::info!(data = %data.display(), "listening on {url}");
        notify::ready(&format!("listens on {url}"));
        tokio::spawn(notify::stay_alive());
        loop {
            tokio::select! {
                heard = signals.next() => match heard {
                    Heard::Stop => break,
                    Heard::Reload => {
                        // Beside the wait for signals: a connector may take a while to end.
                        tokio::spawn(reload(Arc::clone(&node).facade()));
                    }
                },
                reason = node.failed() => {
                    give_last_answers(&stop, server).await;
                    return Err(Failure::Storage(reason));
                }
            }
        }
        tracing::info!("stops");
        notify::stopping();
        stop.send_replace(true);
        let stopped = async {
            let stopped = node.stop().await;
            // The answers to what the node has just ended are still on their way.
            let _ = server.await;
            stopped
        };
        tokio::select! {
            stopped = stopped => stopped.map_err(Failure::Storage),
            () = signals.stop() => {
                Err(anyhow!("stopped without waiting; the next start recovers what is durable").into())
            }
        }
    }
}

fn unstarted(error: StartError) -> Failure {
    match error {
        StartError::Refused(reason) => Failure::Other(anyhow!(reason)),
        StartError::Storage(reason) => Failure::Storage(reason),
    }
}

fn guard(server: &Server, listen: SocketAddr) -> Guard {
    Guard {
        listen,
        hosts: server.hosts.clone(),
        tls: server.tls.is_some(),
        tokens_required: server.tokens.requires(listen),
    }
}

/// The certificate that it begins with, where there is one. One that is over is told and taken: a server that doesn't
/// start helps nobody.
fn tls(server: &Server) -> Result<Option<Arc<Tls>>, Failure> {
    let Some(files) = &server.tls else { return Ok(None) };
    let certificate = Certificate::read(files).map_err(Failure::File)?;
    for note in certificate.note(host_time()).into_iter().chain(certificate.not_for(&server.hosts)) {
        tracing::warn!("{note}");
    }
    Ok(Some(Arc::new(Tls::new(certificate).map_err(Failure::File)?)))
}

/// Things to be told for as long as the server runs.
fn warnings(config: &Config) -> Vec<String> {
    let listen = config.server.listen;
    if listen.ip().is_loopback() {
        return Vec::new();
    }
    let mut warnings = Vec::new();
    if config.server.tls.is_none() {
        warnings.push(format!(
            "it listens on {listen}, which isn't loopback: tokens and readings cross the network in the clear"
        ));
    }
    if !config.server.tokens.requires(listen) {
        warnings.push("[server] tokens = \"optional\": whoever reaches it may do everything".to_owned());
    }
    warnings
}

/// After log or store have failed, whoever waited for them has been told: the server stops once these answers are out.
async fn give_last_answers(stop: &watch::Sender<bool>, server: JoinHandle<()>) {
    stop.send_replace(true);
    if tokio::time::timeout(LAST_ANSWERS, server).await.is_err() {
        tracing::warn!("requests were still running when the server ended");
    }
}

/// The signals that a server hears.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Heard from the first, so that a terminal that is closed doesn't end the server.
    hangup: Signal,
    /// Heard, so that a write beyond a limit of the size of files fails as on a full disk, and ends nothing.
    _file_size: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        let file_size = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            _file_size: signal(file_size)?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.terminate.recv() => Heard::Stop,
            _ = self.interrupt.recv() => Heard::Stop,
            _ = self.hangup.recv() => Heard::Reload,
        }
    }

    /// Waits for one that says to stop. One that says to reload waits meanwhile.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The wish of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    Stop,
    /// By SIGHUP: the configuration may have changed.
    Reload,
}

/// Takes a changed configuration; nobody but the log is there to be told.
async fn reload(node: Arc<dyn Facade>) {
    notify::reloading();
    let reloaded = node.reload(false).await;
    notify::ready(if reloaded.is_ok() {
        "has read its configuration again"
    } else {
        "has kept its configuration"
    });
    match reloaded {
        Ok(Reloaded { changes, notes, .. }) => {
            for note in notes {
                tracing::info!("{note}");
            }
            tracing::info!(changes = changes.len(), "SIGHUP: the configuration was read again");
        }
        Err(problem) => {
            let errors: Vec<String> = problem.errors.iter().map(|error| Line(error).to_string()).collect();
            tracing::error!(errors = errors.join("; "), "SIGHUP: {}", problem.detail);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_fails_waits_for_its_last_answers_but_not_for_ever() {
        let (stop, mut stopping) = watch::channel(false);
        let (answered, answers) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(async move {
            let _ = stopping.wait_for(|stop| *stop).await;
            tokio::time::sleep(LAST_ANSWERS / 2).await;
            let _ = answered.send(());
        });
        give_last_answers(&stop, server).await;
        answers.await.unwrap();

        let began = tokio::time::Instant::now();
        give_last_answers(&stop, tokio::spawn(std::future::pending())).await;
        assert_eq!(began.elapsed(), LAST_ANSWERS);
    }
}
