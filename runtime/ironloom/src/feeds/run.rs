//! Runs an app on a feed, in a node of its own.

mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tempfile::TempDir;

use self::watch::Watch;
use super::{Event, Feed, FeedError, Header, Step, Summary};
use crate::api::capsule::{Capsule, Rerun};
use crate::api::facade::{Facade, InstallRequest, PackageInfo, PageQuery, PartialLimits, Patterns, Problem};
use crate::api::host::{AdminToken, Host, Left, NodeOptions, Start};
use crate::aside::aside;
use crate::config::{Config, Source, Span};
use crate::telemetry::{LogFilter, Telemetry};
use ironloom_apps::grants::Grants;
use ironloom_apps::plan::is_of_no_point;
use ironloom_sandbox::Compiled;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{InstallationId, SlotName, TenantId};

/// The id of the one installation.
const ID: &str = "try";
/// The patience with an app that can't go on: it may ask for the same readings again, and later ones.
const PATIENCE: Duration = Duration::from_secs(60);
/// The pause between two looks at whether the app is done.
const LOOK: Duration = Duration::from_micros(200);
/// The share of an app that nobody else stands beside, in nanoseconds a second: all of a processor.
const WHOLE_SHARE: u64 = 1_000_000_000;
/// Entries of the state on a page.
const PAGE: usize = 1_000;

/// The choices of an install.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub bindings: BTreeMap<SlotName, Patterns>,
    pub settings: BTreeMap<SlotName, serde_json::Value>,
    pub grants: Grants,
    pub limits: PartialLimits,
    pub timezone: Option<String>,
}

impl From<Header> for Wanted {
    fn from(Header { bindings, settings, grants, limits, timezone, .. }: Header) -> Self {
        Self { bindings, settings, grants, limits, timezone }
    }
}

/// The end of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Time(Timestamp),
    /// After the feed's end.
    After(Span),
}

impl Until {
    fn of(self, end: Timestamp) -> Timestamp {
        match self {
            Self::Time(time) => time,
            Self::After(span) => end.plus(span.0),
        }
    }
}

impl std::str::FromStr for Until {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = text.parse() {
            return Ok(Self::After(span));
        }
        text.parse()
            .map(Self::Time)
            .map_err(|error| format!("it is not a duration such as \"10 d\", and {error}"))
    }
}

/// The end of a feed.
#[derive(Debug)]
pub(crate) struct Ended {
    pub summary: Summary,
    /// The reason for an end before the feed's.
    pub stuck: Option<FeedError>,
}

/// An app in a node of its own. The node's folder goes with it.
pub(crate) struct Trial {
    host: Arc<dyn Host>,
    node: Arc<dyn Facade>,
    folder: TempDir,
    package: PackageInfo,
    id: InstallationId,
    watch: Watch,
}

impl Trial {
    /// Starts a node in a temporary folder and gives it the package. Within a runtime.
    pub(crate) async fn begin(
        start: Start,
        package: Bytes,
        zone: &str,
        compiled: Compiled,
    ) -> Result<Self, FeedError> {
        let id =
            InstallationId::new(TenantId::MAIN, ID).map_err(|error| FeedError::Host(error.to_string()))?;
        let folder = tempfile::Builder::new().prefix("ironloom-try-").tempdir();
        let folder =
            folder.map_err(|error| FeedError::Host(format!("no temporary folder can be made: {error}")))?;
        let options = NodeOptions {
            config: config(zone)?,
            data: folder.path().join("data"),
            warnings: Vec::new(),
            admin_token: AdminToken::Never,
            throwaway: true,
            by_steps: true,
            compiled,
            telemetry: Telemetry::new(LogFilter::unused()),
            tls: None,
            source: Source::default(),
        };
        let host = aside(move || start(options)).await.map_err(|error| FeedError::Host(error.to_string()))?;
        let host = host.map_err(|error| FeedError::Host(error.to_string()))?;
        let node = Arc::clone(&host).facade();
        let (package, _) = node.add_package(TenantId::MAIN, package).await.map_err(refused)?;
        let watch = Watch::new(id.clone());
        Ok(Self { host, node, folder, package, id, watch })
    }

    pub(crate) fn package(&self) -> &PackageInfo {
        &self.package
    }

    /// Installs the app as if it had been there before `first`. Returns warnings.
    pub(crate) async fn install(
        &mut self,
        wanted: Wanted,
        first: Timestamp,
    ) -> Result<Vec<String>, FeedError> {
        // A timer that is due with the first reading runs, too.
        let before = Timestamp(first.0.saturating_sub(1));
        self.host.tick(before);
        self.settle(before).await?;
        let Wanted { bindings, settings, grants, limits, timezone } = wanted;
        let request = InstallRequest {
            id: self.id.clone(),
            package: self.package.digest,
            publisher: None,
            new_publisher: None,
            bindings,
            grants,
            settings,
            limits,
            timezone,
            keep_up: false,
            from: None,
            adopt: None,
            consent: None,
        };
        let installed = self.node.install(self.id.tenant(), vec![request], false).await;
        // It is the only one: its place in a list says nothing.
        let installed = installed.map_err(|mut problem| {
            for error in &mut problem.errors {
                if let Some(place) = &mut error.place {
                    place.item = None;
                }
            }
            refused(problem)
        })?;
        let Some(installed) = installed.into_iter().next() else {
            return Err(FeedError::Host("nothing was installed".to_owned()));
        };
        self.watch.bound_as(&installed.installation);
        // No point is there yet, so each input is told to match none.
        Ok(installed.warnings.into_iter().filter(|warning| !is_of_no_point(warning)).collect())
    }

    /// Feeds it, up to the feed's end and then to `until`, and tells what it does.
    pub(crate) async fn run(
        &mut self,
        feed: &mut Feed,
        until: Option<Until>,
        on: &mut (dyn FnMut(Event) + Send),
    ) -> Ended {
        let mut summary = Summary::default();
        let mut counted = |event: Event| {
            summary.count(&event);
            on(event);
        };
        let mut fed = Fed::default();
        let result = self.feed(feed, until, &mut fed, &mut counted).await;
        let stuck = match result {
            Ok(()) => None,
            // What it did so far is worth knowing all the more.
            Err(error) => {
                let _ = self.watch.look(&*self.node, fed.to.unwrap_or_default(), &mut counted).await;
                Some(error)
            }
        };
        self.watch.never_came(&self.host.retrying(), &mut counted);
        let _ = self.watch.last_lines(&*self.node, fed.to.unwrap_or_default(), &mut counted).await;
        let skipped = if let Feed::Csv(csv) = feed { csv.skipped() } else { 0 };
        let (readings, from, to) = (fed.readings, fed.from, fed.to);
        let Watch { taken, invocations, timers, .. } = self.watch;
        Ended {
            summary: Summary { readings, from, to, skipped, taken, invocations, timers, ..summary },
            stuck,
        }
    }

    async fn feed(
        &mut self,
        feed: &mut Feed,
        until: Option<Until>,
        fed: &mut Fed,
        on: &mut (dyn FnMut(Event) + Send),
    ) -> Result<(), FeedError> {
        while let Some(step) = feed.next().await? {
            fed.from.get_or_insert(step.time);
            self.come_to(step.time, on).await?;
            fed.to = Some(step.time);
            fed.readings += step.push.columns.len() as u64;
            self.step(step, on).await?;
        }
        let end = fed.to.unwrap_or_default();
        if let Some(until) = until.map(|until| until.of(end)).filter(|until| end < *until) {
            self.come_to(until, on).await?;
            fed.to = Some(until);
            self.pass(until, on).await?;
        }
        Ok(())
    }

    /// Lets each timer through this time run at its own.
    async fn come_to(
        &mut self,
        time: Timestamp,
        on: &mut (dyn FnMut(Event) + Send),
    ) -> Result<(), FeedError> {
        while let Some(due) = self.host.next_due().filter(|due| *due <= time) {
            self.pass(due, on).await?;
        }
        Ok(())
    }

    async fn pass(&mut self, time: Timestamp, on: &mut (dyn FnMut(Event) + Send)) -> Result<(), FeedError> {
        let waiting = self.host.retrying();
        self.host.tick(time);
        self.settle(time).await?;
        self.retry(&waiting, time).await?;
        self.obey(time, on).await?;
        self.watch.look(&*self.node, time, on).await
    }

    /// Has set-points accepted until the app, which may hear of it, asks for no more.
    async fn obey(&mut self, time: Timestamp, on: &mut (dyn FnMut(Event) + Send)) -> Result<(), FeedError> {
        let begun = Instant::now();
        loop {
            let (ends, recorded) = self.host.obey().await.map_err(FeedError::Host)?;
            if ends.is_empty() {
                return Ok(());
            }
            // Before it hears of them.
            self.watch.look(&*self.node, time, on).await?;
            ends.into_iter().map(watch::of_set_point).for_each(&mut *on);
            if let Some(recorded) = recorded {
                let never = Box::pin(std::future::pending());
                self.node.applied(self.id.tenant(), recorded, PATIENCE, never).await.map_err(refused)?;
            }
            self.settle(time).await?;
            if begun.elapsed() > PATIENCE {
                let told = format!(
                    "the app asks for set-points again and again at {}, whenever it hears of their outcomes",
                    time.to_jiff()
                );
                return Err(FeedError::Stuck(told));
            }
        }
    }

    /// Runs timers again that asked for it before this step: what they wait for may have come with it.
    async fn retry(&self, waiting: &[String], time: Timestamp) -> Result<(), FeedError> {
        if waiting.is_empty() {
            return Ok(());
        }
        self.host.retry(waiting);
        self.settle(time).await
    }

    async fn step(&mut self, step: Step, on: &mut (dyn FnMut(Event) + Send)) -> Result<(), FeedError> {
        if step.push.columns.is_empty() {
            return self.pass(step.time, on).await;
        }
        self.room(&step).await?;
        let waiting = self.host.retrying();
        // Readings that come late move no clock.
        self.host.tick(step.time);
        let pushed = self.node.submit(step.push).map_err(refused)?.await.map_err(refused)?;
        // Told at once when it is done; what doesn't concern this record is looked for.
        let never = Box::pin(std::future::pending());
        self.node.applied(self.id.tenant(), pushed, PATIENCE, never).await.map_err(refused)?;
        self.settle(step.time).await?;
        self.retry(&waiting, step.time).await?;
        self.obey(step.time, on).await?;
        self.watch.look(&*self.node, step.time, on).await
    }

    /// Waits until there is room for more.
    async fn room(&self, step: &Step) -> Result<(), FeedError> {
        let begun = Instant::now();
        loop {
            match self.node.has_room(&step.push.new_points) {
                Ok(()) => return Ok(()),
                Err(problem) if begun.elapsed() > PATIENCE => return Err(refused(problem)),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }

    /// Waits until the app is done with everything through this time.
    async fn settle(&self, time: Timestamp) -> Result<(), FeedError> {
        let begun = Instant::now();
        loop {
            match self.host.left(time) {
                Left::Nothing => return Ok(()),
                Left::Stopped(why) => {
                    return Err(FeedError::Stuck(format!(
                        "the app doesn't go on at {}: {why}",
                        time.to_jiff()
                    )));
                }
                Left::Work if begun.elapsed() > PATIENCE => {
                    let why = self.why().await;
                    return Err(FeedError::Stuck(format!(
                        "the app isn't done with {} after {} s{why}",
                        time.to_jiff(),
                        PATIENCE.as_secs()
                    )));
                }
                Left::Work => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn why(&self) -> String {
        let Ok(installation) = self.node.installation(self.id.clone()).await else { return String::new() };
        let timer = installation.last_timer_error.map(|timer| timer.error);
        installation
            .last_error
            .or(timer)
            .map_or(String::new(), |error| format!(": {}: {}", error.kind, error.message))
    }

    /// Runs the invocations of a capsule again; the app is installed as the capsule says.
    pub(crate) async fn capsule(&mut self, mut capsule: Capsule) -> Result<Vec<Rerun>, FeedError> {
        capsule.id = capsule.id.within(TenantId::MAIN);
        capsule.generation = capsule.generation.within(TenantId::MAIN);
        let Some(first) = capsule.invocations.first().map(|one| one.invocation.time) else {
            return Err(FeedError::File("the capsule has no invocations".to_owned()));
        };
        // Its outputs go where they went: their points have the installation's id in their names.
        self.id = capsule.id.clone();
        self.watch = Watch::new(capsule.id.clone());
        let wanted = Wanted {
            bindings: capsule.bindings.clone(),
            settings: capsule.settings.clone(),
            grants: capsule.grants.clone(),
            limits: capsule.limits,
            timezone: Some(capsule.timezone.clone()),
        };
        self.install(wanted, first).await?;
        self.host.run_capsule(capsule).await.map_err(refused)
    }

    /// The app's state, in the order of the keys.
    pub(crate) async fn state(&self) -> Result<Vec<Event>, FeedError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = PageQuery { after, limit: PAGE };
            let read = self.node.state(self.id.clone(), String::new(), page).await.map_err(refused)?;
            let page = read().await.map_err(refused)?;
            found.extend(page.items.into_iter().map(watch::of_state));
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    /// Stops the node and removes its folder.
    pub(crate) async fn end(self) -> Result<(), FeedError> {
        let stopped = self.host.stop().await;
        let Self { host, node, folder, .. } = self;
        drop((host, node));
        folder
            .close()
            .map_err(|error| FeedError::Host(format!("the temporary folder can't be removed: {error}")))?;
        stopped.map_err(FeedError::Host)
    }
}

/// The progress of a feed.
#[derive(Debug, Default)]
struct Fed {
    readings: u64,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

fn refused(problem: Problem) -> FeedError {
    FeedError::Refused(Box::new(problem))
}

/// The configuration of a node for one app.
fn config(zone: &str) -> Result<Config, FeedError> {
    let zone = serde_json::to_string(zone).unwrap_or_default();
    let text = format!("[site]\nclock = \"feed\"\ntimezone = {zone}\n");
    let mut config = Config::read(&text).map_err(|problems| {
        let told: Vec<String> = problems.0.iter().map(|problem| problem.message.clone()).collect();
        FeedError::File(format!("the time zone: {}", told.join("; ")))
    })?;
    config.limits.share = WHOLE_SHARE;
    config.policy.unsigned = true;
    Ok(config)
}
