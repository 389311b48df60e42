//! The command line. One file for each subcommand; each speaks to the API, but for `serve`, `build`,
//! `pack`, `new`, `dev`, `inspect`, `key`, `sign`, `verify`, `try`, `test`, `completions` and the hidden `compile-worker`.

mod alarms;
mod audit;
mod backup;
pub(crate) mod build;
mod bundle;
mod capsule;
mod catalog;
mod client;
mod clock;
mod commit;
mod completions;
mod connectors;
mod consent;
mod consents;
mod copies;
mod credentials;
mod dead_letters;
mod described;
mod dev;
mod events;
mod extras;
mod failure;
mod follow;
mod grants;
mod halt;
mod inspect;
mod install;
mod intents;
mod invocations;
mod key;
mod list;
mod listing;
mod log_level;
mod logs;
pub(crate) mod new;
mod output;
mod outputs;
mod pack;
mod packages;
mod pause;
mod points;
mod progress;
mod push;
mod readings;
mod record;
mod rehearse;
mod reload;
mod replay;
mod reset;
mod restore;
mod resume;
mod rollback;
mod serve;
mod set;
mod show;
mod sign;
mod state;
mod status;
mod store;
mod tenant;
mod test;
#[cfg(test)]
mod tests;
mod timers;
mod token;
mod top;
mod r#try;
mod uninstall;
mod upgrade;
mod usage;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};

use self::client::Client;
use self::credentials::Credentials;
use self::failure::{Failure, Outcome};
use crate::api::host::Start;
use ironloom_sandbox::{SUBCOMMAND, compile_worker};

/// Runs third-party industrial apps, compiled to WebAssembly components, beside the machines
#[derive(Debug, Parser)]
#[command(name = "ironloom", version)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

// No doc comment: clap would show it as what the program is about.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// Where the server is
    #[arg(
        long,
        global = true,
        env = "IRONLOOM_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:7420",
        value_name = "URL"
    )]
    pub url: String,
    /// Print the API's JSON instead of a table
    #[arg(long, global = true)]
    pub json: bool,
    /// A file with the token to show the server, in its first line. IRONLOOM_TOKEN has the token itself
    #[arg(long, global = true, env = "IRONLOOM_TOKEN_FILE", hide_env_values = true, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with certificates (PEM) of authorities to trust besides those of the system; more than once for several
    #[arg(long, global = true, env = "IRONLOOM_CA", hide_env_values = true, value_name = "FILE")]
    pub ca: Vec<PathBuf>,
    /// Show the token over http:// too, where everybody on the way can read it
    #[arg(
        long,
        global = true,
        env = "IRONLOOM_PLAIN_HTTP",
        hide_env_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub plain_http: bool,
}

impl Global {
    /// Speaks to the server, with the token that was given.
    fn client(&self) -> Result<Client, Failure> {
        Ok(Client::reaching(&self.url, Credentials::of(self)?))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Show how the server is: ready, its disk, its installations
    Status(status::Status),
    /// Have the server take a changed configuration
    Reload(reload::Reload),
    /// Write a backup of a running server into a file
    Backup(backup::Backup),
    /// Restore a backup into a folder without data
    Restore(restore::Restore),
    /// Check a data folder, or copy it into another engine, while no server runs on it
    Store(store::Store),
    /// Show or change the level of the server's log
    LogLevel(log_level::LogLevel),
    /// Create a new app in a folder named after it
    New(new::NewArgs),
    /// Build an app and pack it as one file
    Build(build::BuildArgs),
    /// Build an app, run it on a private server with a feed, and replace it when it changes
    Dev(dev::Dev),
    /// Pack a component that any toolchain built, with its manifest, as one file
    Pack(pack::PackArgs),
    /// Show what an app asks for, from its package file
    Inspect(inspect::Inspect),
    /// Make and show keys that sign packages
    Key(key::Key),
    /// Sign a package
    Sign(sign::Sign),
    /// Show who has signed a package
    Verify(verify::Verify),
    /// Add catalogs of apps to a server, look through them, or make one
    Catalog(catalog::Catalog),
    /// Pack apps of a catalog into one file, for a USB stick
    Bundle(bundle::Bundle),
    /// Run an app on a feed from a file, without a server
    Try(r#try::Try),
    /// Run an app on its golden feeds, and compare what it does
    Test(test::Test),
    /// Install an app from its package
    Install(install::Install),
    /// Remove an installation
    Uninstall(uninstall::Uninstall),
    /// List installations
    List(list::List),
    /// Show one installation
    Show(show::Show),
    /// Change an installation while it runs
    Set(set::Set),
    /// Give an installation another version of its app
    Upgrade(upgrade::Upgrade),
    /// Try a change of an installation over the recorded journal, beside what runs
    Rehearse(rehearse::Rehearse),
    /// Go back to the version and the state from before an upgrade
    Rollback(rollback::Rollback),
    /// Make an upgrade final, so that it can't be rolled back
    Commit(commit::Commit),
    /// List the copies of an installation's state
    Copies(copies::Copies),
    /// Start an installation over, from a place of the journal on
    Reset(reset::Reset),
    /// Pause an installation
    Pause(pause::Pause),
    /// Resume an installation that is paused or quarantined
    Resume(resume::Resume),
    /// Show an installation's log
    Logs(logs::Logs),
    /// List points, show one, say what it is, rename or retire some
    Points(points::Points),
    /// Read the journal back
    Readings(readings::Readings),
    /// Push readings, one JSON object on each line
    Push(push::Push),
    /// Cut a stretch of an installation's readings out of the journal, as a feed
    Record(record::Record),
    /// Show an installation's outputs
    Outputs(outputs::Outputs),
    /// Show where an installation's set-points go, confirm or dismiss some
    Intents(intents::Intents),
    /// Turn the kill switch on: no set-point is sent
    Halt(halt::Halt),
    /// Turn the kill switch off
    Release(halt::Release),
    /// List alarms, show their history, acknowledge or shelve them
    Alarms(alarms::Alarms),
    /// Show an installation's state, or repair it
    State(state::State),
    /// List an installation's timers
    Timers(timers::Timers),
    /// List readings that were set aside, run them again, or delete them
    DeadLetters(dead_letters::DeadLetters),
    /// List an installation's invocations
    Invocations(invocations::Invocations),
    /// Run an installation's recorded invocations again, and compare
    Replay(replay::Replay),
    /// Take an installation's last invocations along as one file, or run those of a file again
    Capsule(capsule::Capsule),
    /// List packages, send one, show what an app asks for, or delete one
    Packages(packages::Packages),
    /// Show what happens, as it happens
    Events(events::Events),
    /// Show which installations, sources and points take how much
    Usage(usage::Usage),
    /// Show what installations take, anew each second
    Top(top::Top),
    /// List connectors and their status, show one or what it has set aside, or try one without a server
    #[command(visible_alias = "connector")]
    Connectors(connectors::Connectors),
    /// Add tenants, list them, or give them quotas
    Tenant(tenant::Tenants),
    /// Make tokens for people and machines, list them, take some back, or show whose the present one is
    Token(token::Tokens),
    /// List the audit log, check it, or export it
    Audit(audit::Audit),
    /// List upgrades that wait for consent, show, accept or refuse one
    Consents(consents::Consents),
    /// Take rights away that an app has never used
    Grants(grants::Grants),
    /// Show the site's clock, or leave a wrong future behind
    Clock(clock::Clock),
    /// Print completions for a shell
    Completions(completions::Completions),
}

/// The part of a list to return.
#[derive(Args, Clone, Debug)]
pub(crate) struct PageArgs {
    /// Continue after this cursor (`next` of the previous page)
    #[arg(long, value_name = "NEXT")]
    pub after: Option<String>,
    /// How many at most, 1 to 10,000
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
}

/// Runs the command that the arguments name; `start` makes the node of `serve`.
pub(crate) fn run(start: Start) -> ExitCode {
    // The server starts itself as its compile worker; what follows are the sandbox's own arguments.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == SUBCOMMAND) {
        return compile_worker();
    }
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Serve(command) => command.run(start),
        Command::Try(command) => command.run(&cli.global, start),
        Command::Test(command) => command.run(&cli.global, start),
        Command::Capsule(command) => command.run(&cli.global, start),
        command => command.run(&cli.global),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure @ Failure::ReaderGone) => failure.code(),
        Err(failure) => {
            output::failed(&failure);
            failure.code()
        }
    }
}

impl Command {
    fn run(self, global: &Global) -> Outcome {
        match self {
            // Handled elsewhere.
            Self::Serve(_) | Self::Try(_) | Self::Test(_) | Self::Capsule(_) => Ok(()),
            Self::New(command) => Ok(new::run(&command)?),
            Self::Build(command) => Ok(build::run(&command, global.json)?),
            Self::Dev(command) => command.run(),
            Self::Pack(command) => Ok(pack::run(&command, global.json)?),
            Self::Inspect(command) => command.run(global),
            Self::Key(command) => command.run(global),
            Self::Sign(command) => command.run(global),
            Self::Verify(command) => command.run(global),
            Self::Catalog(command) => command.run(global),
            Self::Bundle(command) => command.run(global),
            Self::Install(command) => command.run(global),
            Self::Uninstall(command) => command.run(global),
            Self::List(command) => command.run(global),
            Self::Show(command) => command.run(global),
            Self::Set(command) => command.run(global),
            Self::Upgrade(command) => command.run(global),
            Self::Rehearse(command) => command.run(global),
            Self::Reset(command) => command.run(global),
            Self::Rollback(command) => command.run(global),
            Self::Commit(command) => command.run(global),
            Self::Copies(command) => command.run(global),
            Self::Pause(command) => command.run(global),
            Self::Resume(command) => command.run(global),
            Self::Logs(command) => command.run(global),
            Self::Points(command) => command.run(global),
            Self::Readings(command) => command.run(global),
            Self::Push(command) => command.run(global),
            Self::Record(command) => command.run(global),
            Self::Outputs(command) => command.run(global),
            Self::Intents(command) => command.run(global),
            Self::Halt(command) => command.run(global),
            Self::Release(command) => command.run(global),
            Self::Alarms(command) => command.run(global),
            Self::State(command) => command.run(global),
            Self::Timers(command) => command.run(global),
            Self::DeadLetters(command) => command.run(global),
            Self::Invocations(command) => command.run(global),
            Self::Replay(command) => command.run(global),
            Self::Packages(command) => command.run(global),
            Self::Events(command) => command.run(global),
            Self::Connectors(command) => command.run(global),
            Self::Audit(command) => command.run(global),
            Self::Consents(command) => command.run(global),
            Self::Grants(command) => command.run(global),
            Self::Usage(command) => command.run(global),
            Self::Top(command) => command.run(global),
            Self::Tenant(command) => command.run(global),
            Self::Token(command) => command.run(global),
            Self::Clock(command) => command.run(global),
            Self::Status(command) => command.run(global),
            Self::Reload(command) => command.run(global),
            Self::Backup(command) => command.run(global),
            Self::Restore(command) => command.run(global),
            Self::Store(command) => command.run(global),
            Self::LogLevel(command) => command.run(global),
            Self::Completions(command) => command.run(),
        }
    }
}
