//! `ironloom try`: a feed through an app, without a server.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::{ArgGroup, Args};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::{Failure, Outcome};
use super::install::{Choices, Chosen, pair};
use super::{Global, inspect, output, status};
use crate::api::facade::PackageInfo;
use crate::api::host::Start;
use crate::config::MAX_FILE;
use crate::feeds::{
    CsvFeed, CsvOptions, Ended, Event, Feed, FeedError, Header, LinesFeed, Seen, Summary, Trial, Until,
    bindings,
};
use ironloom_sandbox::Compiled;
use ironloom_storage::small_files;
use ironloom_types::text::clean;

/// Bytes of a component beyond which its compilation takes seconds, as of one that brings an interpreter.
const LONG_TO_COMPILE: usize = 1 << 20;

/// Runs an app on a feed without a server, and prints all that it does. Time is the feed's, timers included. Exit code 1:
/// it failed, or set readings aside.
#[derive(Args, Debug)]
#[command(group(ArgGroup::new("source").required(true).args(["feed", "csv"])))]
pub(super) struct Try {
    /// The package, as `ironloom build` makes it
    package: PathBuf,
    /// A feed of lines such as {"point":"hall/1/temperature","value":21.5,"at":"2026-01-01T00:00:00Z"}; its first line may
    /// have bindings and settings: {"feed":1,"bindings":{…},"settings":{…}}; a line with `at` alone lets time pass
    #[arg(long, value_name = "FILE")]
    feed: Option<PathBuf>,
    /// A CSV file with a header line. Columns that are named like inputs of the app are taken
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// The CSV file's column with the time
    #[arg(long, value_name = "COLUMN", requires = "csv")]
    at: Option<String>,
    /// A CSV file's column that tells whose reading a line has, such as a serial number; repeat it for several
    #[arg(long, value_name = "COLUMN", requires = "csv")]
    by: Vec<String>,
    /// The point that a column of the CSV file becomes: Weight='farm/{Pig}/weight'
    #[arg(long = "column", value_name = "COLUMN=POINT", value_parser = pair, requires = "csv")]
    column: Vec<(String, String)>,
    /// A TOML file with the keys that [connectors.NAME] of the configuration has for CSV files
    #[arg(long, value_name = "FILE", requires = "csv")]
    csv_options: Option<PathBuf>,
    #[command(flatten)]
    choices: Choices,
    /// Let time pass after the feed's end: up to a time, or for a duration such as `10 d`
    #[arg(long, value_name = "TIME|DURATION")]
    until: Option<Until>,
    /// Print what the app remembers at the end
    #[arg(long)]
    state: bool,
    /// Exit with 0 although readings were set aside
    #[arg(long)]
    allow_dead_letters: bool,
}

impl Try {
    pub(super) fn run(self, global: &Global, start: Start) -> Outcome {
        let package = inspect::bytes(&self.package)?;
        // What is wrong with the package, or with what is asked for, is told before a node is started for it.
        let size = inspect::read(&self.package, &package)?.component.len();
        let table = self.csv_options.as_deref().map(table).transpose()?.unwrap_or_default();
        self.check_columns(&table)?;
        let chosen = self.choices.read()?;
        let header = self.header()?;
        if let Some(patience) = patience(size).filter(|_| output::is_watched()) {
            output::note(&patience);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let outcome = runtime.block_on(self.tried(global, start, package, Asked { chosen, header, table }));
        runtime.shutdown_background();
        outcome
    }

    async fn tried(&self, global: &Global, start: Start, package: Bytes, asked: Asked<'_>) -> Outcome {
        let mut interrupted = Interrupted::new()?;
        let zone = asked.zone();
        let mut trial = tokio::select! {
            trial = Trial::begin(start, package, &zone, Compiled::Rewritten) => trial.map_err(failure)?,
            () = interrupted.come() => return Err(was_interrupted()),
        };
        let outcome = tokio::select! {
            outcome = self.fed(global, &mut trial, asked) => outcome,
            () = interrupted.come() => Err(was_interrupted()),
        };
        // A second signal ends that as well; the folder goes all the same.
        let ended = tokio::select! {
            ended = trial.end() => ended.map_err(failure),
            () = interrupted.come() => Err(was_interrupted()),
        };
        let Ended { summary, stuck } = outcome?;
        ended?;
        tell_summary(global, &summary)?;
        if let Some(stuck) = stuck {
            return Err(failure(stuck));
        }
        self.judge(&summary)
    }

    /// Opens the feed, installs the app for it and runs it.
    async fn fed(&self, global: &Global, trial: &mut Trial, asked: Asked<'_>) -> Result<Ended, Failure> {
        let zone = asked.zone();
        let Asked { chosen, header, table } = asked;
        let seen = Seen::look(self.open(trial.package(), &table, &zone)?).await.map_err(failure)?;
        let Some(first) = seen.first else {
            return Err(Failure::File(format!("{}: it has no readings", self.file().display())));
        };
        let mut wanted = chosen.wanted(header, trial.package())?;
        let bound = bindings(trial.package(), wanted.bindings, &seen);
        wanted.bindings = bound.map_err(|unbound| Failure::Misuse(unbound.for_flags()))?;
        for (name, patterns) in &wanted.bindings {
            if !self.choices.names(name) && std::io::stderr().is_terminal() {
                output::note(&format!("{name} is bound to {}", patterns.as_slice().join(", ")));
            }
        }
        for warning in trial.install(wanted, first).await.map_err(failure)? {
            output::note(&format!("warning: {warning}"));
        }
        let mut feed = self.open(trial.package(), &table, &zone)?;
        let mut printed = Ok(());
        let json = global.json;
        let mut on = |event: Event| {
            if printed.is_ok() {
                printed = tell(json, &event);
            }
        };
        let ended = trial.run(&mut feed, self.until, &mut on).await;
        printed?;
        if self.state {
            for event in trial.state().await.map_err(failure)? {
                tell(global.json, &event)?;
            }
        }
        Ok(ended)
    }

    fn file(&self) -> &Path {
        self.feed.as_deref().or(self.csv.as_deref()).unwrap_or(Path::new(""))
    }

    fn header(&self) -> Result<Header, Failure> {
        match &self.feed {
            Some(feed) => Ok(LinesFeed::open(feed).map_err(failure)?.header().clone()),
            None => Ok(Header::new()),
        }
    }

    /// Opens the feed at its beginning.
    fn open(&self, package: &PackageInfo, table: &toml::Table, zone: &str) -> Result<Feed, Failure> {
        if let Some(feed) = &self.feed {
            return Ok(Feed::Lines(Box::new(LinesFeed::open(feed).map_err(failure)?)));
        }
        let file = self.file();
        let options = CsvOptions {
            table: table.clone(),
            at: self.at.clone(),
            columns: self.column.clone(),
            by: self.by.clone(),
        };
        let options = options.complete(file, package).map_err(failure)?;
        Ok(Feed::Csv(CsvFeed::open(file, &options, zone).map_err(failure)?))
    }

    /// Refuses to say in two ways which points the columns become: one of them would count for nothing.
    fn check_columns(&self, table: &toml::Table) -> Outcome {
        let of_file = table.contains_key("columns");
        let refused = match (self.by.first(), self.column.first()) {
            (Some(by), Some((column, _))) => format!(
                "--by {by} goes with columns that are named like inputs; with --column the point says whose reading it is, \
                 such as --column {column}='{{{by}}}/value'"
            ),
            (Some(by), None) if of_file => format!(
                "--by {by} goes with columns that are named like inputs, and the file of --csv-options has `columns`; their \
                 points say whose reading it is, such as '{{{by}}}/value'"
            ),
            (None, Some((column, _))) if of_file => format!(
                "--column {column} and the `columns` in the file of --csv-options both say which points columns become; \
                 leave one of them out"
            ),
            _ => return Ok(()),
        };
        Err(Failure::Misuse(refused))
    }

    fn judge(&self, summary: &Summary) -> Outcome {
        if summary.taken == 0 && summary.readings > 0 {
            let readings = output::counted(summary.readings, "reading");
            let told = format!(
                "the app took none of the feed's {readings}: no point of it matches an input's binding; see --bind"
            );
            return Err(anyhow::anyhow!(told).into());
        }
        let set_aside = output::counted(summary.set_aside, "reading");
        let failed = output::counted(summary.failed, "failed invocation");
        let told = match (summary.set_aside > 0 && !self.allow_dead_letters, summary.failed > 0) {
            (false, false) => return Ok(()),
            (true, false) => format!("{set_aside} set aside; --allow-dead-letters takes that for well"),
            (false, true) => failed,
            (true, true) => format!("{failed}, and {set_aside} set aside"),
        };
        Err(anyhow::anyhow!(told).into())
    }
}

/// The things that were asked for, as far as they stand in files.
struct Asked<'a> {
    chosen: Chosen<'a>,
    header: Header,
    /// The options of a CSV file.
    table: toml::Table,
}

impl Asked<'_> {
    /// The zone of the app's timers, and of times that name none.
    fn zone(&self) -> String {
        self.chosen.timezone(&self.header).unwrap_or("UTC").to_owned()
    }
}

/// The words before a component is compiled that has so many bytes.
fn patience(size: usize) -> Option<String> {
    let size = (size > LONG_TO_COMPILE).then_some(size as u64)?;
    Some(format!("compiling the app's code, {}: this takes a while", status::size(size)))
}

fn table(file: &Path) -> Result<toml::Table, Failure> {
    let name = file.display();
    let text = small_files::read_text(file, MAX_FILE)?;
    text.parse().map_err(|error: toml::de::Error| Failure::File(format!("{name}: {error}")))
}

fn tell(json: bool, event: &Event) -> Outcome {
    if json {
        output::json_text(&format!("{}\n", event.json()))
    } else {
        output::print(&format!("{}\n", event.text()))
    }
}

fn tell_summary(global: &Global, summary: &Summary) -> Outcome {
    if global.json {
        let json = serde_json::json!({ "summary": summary });
        return output::json_text(&format!("{json}\n"));
    }
    output::print(&format!("\n{}\n", clean(&in_words(summary))))
}

fn in_words(summary: &Summary) -> String {
    let counted = output::counted;
    let mut text = format!("{}, {} of them taken", counted(summary.readings, "reading"), summary.taken);
    if let (Some(from), Some(to)) = (summary.from, summary.to) {
        text.push_str(&format!(", from {} to {}", from.to_jiff(), to.to_jiff()));
    }
    text.push_str(&format!(
        "; {}, {} that ran, {} derived, {} raised, {} set aside, {} failed",
        counted(summary.invocations, "invocation"),
        counted(summary.timers, "timer"),
        counted(summary.outputs, "reading"),
        counted(summary.alarms, "alarm"),
        counted(summary.set_aside, "reading"),
        summary.failed
    ));
    if summary.set_points > 0 {
        text.push_str(&format!("; {}", counted(summary.set_points, "set-point")));
    }
    if summary.skipped > 0 {
        text.push_str(&format!("; {} of the file gave no reading", counted(summary.skipped, "line or cell")));
    }
    text
}

/// The failure of a command by a feed's.
pub(super) fn failure(error: FeedError) -> Failure {
    match error {
        FeedError::File(text) => Failure::File(text),
        FeedError::Refused(problem) => Failure::Refused(*problem),
        FeedError::Stuck(_) | FeedError::Host(_) => anyhow::Error::from(error).into(),
    }
}

fn was_interrupted() -> Failure {
    Failure::Interrupted("interrupted before the end of the feed".to_owned())
}

/// The signals that end a command in its middle.
pub(super) struct Interrupted([Signal; 3]);

impl Interrupted {
    pub(super) fn new() -> std::io::Result<Self> {
        let listen = |kind| signal(kind);
        Ok(Self([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Ready once one has come.
    pub(super) async fn come(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_compilation_is_announced() {
        assert_eq!(patience(1 << 20), None);
        assert_eq!(
            patience(18_000_000).as_deref(),
            Some("compiling the app's code, 17.2 MiB: this takes a while")
        );
    }
}
