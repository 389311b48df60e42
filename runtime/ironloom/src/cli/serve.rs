//! `ironloom serve`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::failure::{Failure, Outcome};
use super::output;
use crate::api::guard::Guard;
use crate::api::host::{NodeOptions, Start, StartError};
use crate::api::{Api, router, server};
use crate::aside::aside;
use crate::config::Config;
use crate::telemetry::{Telemetry, start_logging};
use ironloom_types::clock::Source;

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
    /// Listen on an address that isn't loopback, although there are no credentials yet
    #[arg(long)]
    insecure_bind: bool,
    /// Print a configuration with every key and its default, and exit
    #[arg(long)]
    print_default_config: bool,
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
        start_logging();
        let config = self.read_config()?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS_PER_CORE * cores)
            .event_interval(POLLS_PER_LOOK)
            .global_queue_interval(POLLS_PER_LOOK)
            .enable_all()
            .build()?;
        let outcome = runtime.block_on(self.serve(config, start));
        runtime.shutdown_timeout(LAST_TASKS);
        outcome
    }

    fn read_config(&self) -> Result<Config, Failure> {
        let text = match &self.config {
            Some(path) => {
                std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?
            }
            None => String::new(),
        };
        let name = self.config.as_deref().unwrap_or(Path::new("the configuration"));
        let mut config = Config::read(&text).map_err(|problems| Failure::File(problems.of_file(name)))?;
        if let Some(listen) = self.listen {
            config.server.listen = listen;
        }
        let folder = self.config.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        for connector in config.connectors.values_mut() {
            connector.resolve(folder);
        }
        self.check_address(&config)?;
        Ok(config)
    }

    fn check_address(&self, config: &Config) -> Outcome {
        let listen = config.server.listen;
        if listen.ip().is_loopback() {
            return Ok(());
        }
        if !self.insecure_bind {
            return Err(Failure::Misuse(format!(
                "{listen} isn't loopback, and the server has no credentials yet: anyone who reaches it can do \
                 anything. Listen on 127.0.0.1, or pass --insecure-bind"
            )));
        }
        if config.site.clock == Source::Feed {
            return Err(Failure::Misuse(format!(
                "[site] clock = \"feed\" needs a loopback address, not {listen}"
            )));
        }
        tracing::warn!("listens on {listen} without credentials: anyone who reaches it can do anything");
        Ok(())
    }

    async fn serve(&self, config: Config, start: Start) -> Outcome {
        // From now on: a terminal that is closed doesn't end the server.
        let hangup = signal(SignalKind::hangup())?;
        // Before the node is started, which may take a while: a port that is taken is told at once.
        let listen = config.server.listen;
        let listener =
            TcpListener::bind(listen).await.with_context(|| format!("can't listen on {listen}"))?;
        let listen = listener.local_addr()?;
        let hosts = config.server.hosts.clone();
        let telemetry = Telemetry::new();
        let metrics = telemetry.metrics.clone();
        let exposed = !listen.ip().is_loopback();
        let options = NodeOptions { config, data: self.data.clone(), exposed, telemetry };
        // The node reads the log and may wait for the disk; it is within the runtime, not on it.
        let node = aside(move || start(options))
            .await
            .context("the server's start was interrupted")?
            .map_err(|error| match error {
                StartError::Refused(reason) => Failure::Other(anyhow!(reason)),
                StartError::Storage(reason) => Failure::Storage(reason),
            })?;
        let (stop, stopping) = watch::channel(false);
        let api = Api::new(Arc::clone(&node).facade(), Guard { listen, hosts }, metrics);
        let server = tokio::spawn(server::serve(listener, router(api), stopping));
        match output::print(&format!("listening on http://{listen}\n")) {
            // Nobody reads it; the server runs all the same.
            Err(Failure::ReaderGone) => {}
            printed => printed?,
        }
        let data = std::path::absolute(&self.data).unwrap_or_else(|_| self.data.clone());
        tracing::info!(data = %data.display(), "listening on http://{listen}");
        let mut signals = Signals::new(hangup)?;
        tokio::select! {
            () = signals.stop() => {}
            reason = node.failed() => {
                give_last_answers(&stop, server).await;
                return Err(Failure::Storage(reason));
            }
        }
        tracing::info!("stops");
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
    hangup: Signal,
}

impl Signals {
    fn new(hangup: Signal) -> std::io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup })
    }

    /// Waits for one that says to stop.
    async fn stop(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    tracing::warn!("SIGHUP is ignored; a changed configuration takes a restart");
                }
            }
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
