//! Taking a changed configuration while the server runs: all of it or nothing.

use std::sync::Arc;

use super::audit::by_the_host;
use super::connectors::overridden;
use super::start::batch_limits;
use super::{Node, WantedConnectors, problems, stopping, units};
use crate::access::current;
use crate::api::facade::{
    Answer, ChosenBy, ConfigChange, Detail, LogLevel, LogLines, Place, Problem, Reloaded,
};
use crate::api::tls::Certificate;
use crate::aside::aside;
use crate::config::{Change, Config, History, SourceError, changes};
use ironloom_apps::quantity::{Bytes, Span};
use ironloom_trust::audit::{Chain, Outcome};
use ironloom_types::clock::host_time;

/// Errors of one answer: a file that has more is shown again once these are mended.
const MAX_ERRORS: usize = 100;

impl Node {
    /// Writes other log lines from now on.
    pub(super) fn change_log_level(&self, level: LogLines) -> Answer<LogLevel> {
        let (before, _) = self.telemetry.log.now();
        let set = self.telemetry.log.set(level.clone(), ChosenBy::Request);
        set.map_err(|error| problems::internal(&error))?;
        // Whichever of the two writes more lines has this one.
        tracing::info!(%before, %level, "other log lines are written");
        Ok(LogLevel { level, by: ChosenBy::Request })
    }

    /// Reads the configuration again and takes it.
    pub(super) async fn reload_config(self: Arc<Self>, dry_run: bool) -> Answer<Reloaded> {
        let source = self.source.lock().await;
        let file = source.file.as_ref().map(|path| path.display().to_string());
        let read = {
            let source = source.clone();
            aside(move || source.read()).await.map_err(|error| problems::internal(&error))?
        };
        let config = read.map_err(|error| cant_be_taken(&error))?;
        let before = self.config.load_full();
        let found = changes(&before, &config);
        check(&found)?;
        let certificate = self.read_certificate(&config).await?;
        let mut notes = Vec::new();
        if file.is_none() {
            notes.push(
                "the server was started without --config, so there is nothing to read again".to_owned(),
            );
        }
        notes.extend(foreseen(&before, &config).await?);
        notes.extend(self.overridden(&config));
        if !found.is_empty() && !dry_run {
            let wanted = self.wanted_connectors(&config, source.folder());
            self.take(config, wanted, &before, &found, &mut notes).await?;
        }
        if !dry_run {
            self.tell_reload(&found).await?;
        }
        notes.extend(certificate.and_then(|certificate| self.serve_certificate(certificate, dry_run)));
        let changes = found.into_iter().map(|Change { key, from, to, .. }| ConfigChange { key, from, to });
        Ok(Reloaded { file, changes: changes.collect(), notes })
    }

    /// Tells the audit log which keys are other ones. A request that changes none is told where the others are that have no
    /// record, as one of many.
    async fn tell_reload(&self, found: &[Change]) -> Answer<()> {
        let keys: Vec<&str> = found.iter().map(|change| change.key.as_ref()).collect();
        let keys = keys.join(", ");
        match current() {
            None => {
                drop(self.write_entry(by_the_host(Chain::Platform, "reload", "reload".to_owned(), &keys)))
            }
            Some(deed) if !found.is_empty() => {
                self.write_entry(deed.said(Outcome::Done, "", &keys)).await?;
                deed.set_told();
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Reads the certificate again, which may be another one in the same files.
    async fn read_certificate(&self, config: &Config) -> Answer<Option<Certificate>> {
        let (Some(tls), Some(files)) = (&self.tls, config.server.tls.clone()) else { return Ok(None) };
        let nothing =
            |reason: String| Problem::refused("configuration", format!("nothing was taken: {reason}"));
        let read =
            aside(move || Certificate::read(&files)).await.map_err(|error| problems::internal(&error))?;
        let certificate = read.map_err(nothing)?;
        if certificate.is_over(host_time()) && !tls.serves(&certificate) {
            let until = certificate.until();
            return Err(nothing(format!("[server.tls] certificate: the new one expired on {until}")));
        }
        Ok(Some(certificate))
    }

    /// Gives new connections another certificate, and says so.
    fn serve_certificate(&self, certificate: Certificate, dry_run: bool) -> Option<String> {
        let tls = self.tls.as_ref()?;
        let until = certificate.until();
        let not_for = certificate.not_for(&self.config.load().server.hosts);
        let is_other = !tls.serves(&certificate);
        if !dry_run {
            tls.serve(certificate);
        }
        if is_other && !dry_run {
            tracing::info!(%until, "new connections get another certificate");
        }
        is_other.then(|| {
            let but = not_for.map_or(String::new(), |note| format!("; {note}"));
            format!("[server.tls]: another certificate, until {until}, for new connections{but}")
        })
    }

    /// Names that the file has from now on, and that the log has as well.
    fn overridden(&self, config: &Config) -> Vec<String> {
        let (log, before) = (self.shared.connectors.read(), self.config.load());
        let new = config.connectors.keys().filter(|name| !before.connectors.contains_key(*name));
        let of_log = |name: &&String| log.get(name.as_str()).is_some_and(|of_log| of_log.table.is_some());
        new.filter(of_log).map(|name| format!("connectors.{name}: {}", overridden(name))).collect()
    }

    /// Puts a configuration in the place of the one before. Nothing of it fails but the first step.
    async fn take(
        self: &Arc<Self>,
        config: Config,
        wanted: WantedConnectors,
        before: &Config,
        found: &[Change],
        notes: &mut Vec<String>,
    ) -> Answer<()> {
        if self.connectors.lock().is_none() {
            return Err(stopping());
        }
        let config = Arc::new(config);
        self.config.store(Arc::clone(&config));
        self.runner.set_limits(batch_limits(&config));
        if config.server.log != before.server.log {
            match self.telemetry.log.set(config.server.log.clone(), ChosenBy::Configuration) {
                Ok(true) => {}
                Ok(false) => notes.push(
                    "server.log: IRONLOOM_LOG goes before it; `ironloom log-level` changes it all the same"
                        .to_owned(),
                ),
                Err(error) => notes.push(format!("server.log: {error}")),
            }
        }
        if config.limits != before.limits || config.site.timezone != before.site.timezone {
            notes.push(
                "limits and site.timezone hold for later installs; what is installed keeps its own"
                    .to_owned(),
            );
            super::outdated::tell(&self.lanes, &config);
        }
        let points = config.points != before.points;
        self.replace_connectors(wanted).await?;
        if points {
            let node = Arc::clone(self);
            // Looks at all points there are.
            let given =
                aside(move || units::give(&node.shared.points, &node.config.load().points, &node.committer));
            given.await.map_err(|error| problems::internal(&error))?;
        }
        for Change { key, from, to, .. } in found {
            let (from, to) = (from.as_deref().unwrap_or_default(), to.as_deref().unwrap_or_default());
            tracing::info!(key, from, to, "taken from the changed configuration");
        }
        Ok(())
    }
}

/// Consequences that people may not expect of what differs.
async fn foreseen(before: &Config, config: &Config) -> Answer<Vec<String>> {
    let mut notes = Vec::new();
    if config.points != before.points {
        notes.push("points: units hold for points without one; those that have one keep it".to_owned());
    }
    let is_less = |is: Option<u64>, was: Option<u64>| is.is_some_and(|is| was.is_none_or(|was| is < was));
    let (is, was) = (&config.journal, &before.journal);
    if is_less(is.max_age.map(|Span(age)| age), was.max_age.map(|Span(age)| age)) {
        notes.push("journal.max_age: older readings are deleted within minutes, for good".to_owned());
    }
    if is_less(is.max_bytes.map(|Bytes(bytes)| bytes), was.max_bytes.map(|Bytes(bytes)| bytes)) {
        notes.push(
            "journal.max_bytes: the oldest readings beyond it are deleted within minutes, for good"
                .to_owned(),
        );
    }
    let ages = |config: &Config| {
        let History { invocations, alarms, dead_letters, audit } = config.history;
        [invocations, alarms, dead_letters, audit].map(|age| age.beside(&config.journal).map(|Span(age)| age))
    };
    let histories = [
        ("invocations", "older summaries of invocations are"),
        ("alarms", "older episodes of alarms that are over are"),
        ("dead_letters", "older dead letters are"),
        ("audit", "older entries of the audit log are"),
    ];
    for ((name, what), (is, was)) in histories.into_iter().zip(ages(config).into_iter().zip(ages(before))) {
        if is_less(is, was) {
            notes.push(format!("{name}.max_age: {what} deleted within minutes, for good"));
        }
    }
    let differ = config.connectors.iter().filter(|(name, now)| before.connectors.get(*name) != Some(*now));
    let differ: Vec<_> = differ.map(|(name, now)| (name.clone(), now.clone())).collect();
    let checked = aside(move || {
        let wrong = differ.into_iter().filter_map(|(name, connector)| {
            let problem = connector.check().err()?;
            Some(format!("connectors.{name}: {problem}"))
        });
        wrong.collect::<Vec<_>>()
    });
    notes.extend(checked.await.map_err(|error| problems::internal(&error))?);
    Ok(notes)
}

/// 409 where some of it takes a restart.
fn check(found: &[Change]) -> Answer<()> {
    let restart: Vec<&Change> = found.iter().filter(|change| change.needs_restart).collect();
    if restart.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = restart.iter().map(|change| change.key.as_str()).collect();
    let errors = restart.iter().map(|change| {
        let (from, to) =
            (change.from.as_deref().unwrap_or_default(), change.to.as_deref().unwrap_or_default());
        Detail {
            kind: "needs-restart".to_owned(),
            detail: format!("{from} to {to} takes a restart"),
            place: Some(Place::field(&change.key)),
        }
    });
    let errors = errors.collect();
    let detail = format!("nothing was taken: only a restart takes {}", names.join(", "));
    let problem = Problem::conflict("needs-restart", detail).with(errors);
    Err(problem.hint("Restart the server, or put these keys back for now and reload again."))
}

fn cant_be_taken(error: &SourceError) -> Problem {
    let nothing = |detail: String| Problem::refused("configuration", format!("nothing was taken: {detail}"));
    match error {
        SourceError::Unreadable { .. } => nothing(error.to_string()),
        SourceError::Wrong { path, problems: found } => {
            let errors = found.0.iter().take(MAX_ERRORS).map(|problem| Detail {
                kind: "configuration".to_owned(),
                detail: problem.message.clone(),
                place: Some(problems::place_of(problem)),
            });
            nothing(format!("{} has errors", path.display())).with(errors.collect())
        }
    }
}
