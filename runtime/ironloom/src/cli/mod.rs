//! The command line. One file for each subcommand; each speaks to the API, but for `serve`, `build`,
//! `new` and the hidden `compile-worker`.

mod alarms;
pub(crate) mod build;
mod client;
mod clock;
mod connectors;
mod dead_letters;
mod failure;
mod install;
mod invocations;
mod list;
mod logs;
pub(crate) mod new;
mod output;
mod outputs;
mod packages;
mod pause;
mod points;
mod push;
mod readings;
mod resume;
mod serve;
mod show;
mod state;
#[cfg(test)]
mod tests;
mod uninstall;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

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
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(serve::Serve),
    /// Create a new app in a folder named after it
    New(new::NewArgs),
    /// Build an app and pack it as one file
    Build(build::BuildArgs),
    /// Install an app from its package
    Install(install::Install),
    /// Remove an installation
    Uninstall(uninstall::Uninstall),
    /// List installations
    List(list::List),
    /// Show one installation
    Show(show::Show),
    /// Pause an installation
    Pause(pause::Pause),
    /// Resume an installation that is paused or quarantined
    Resume(resume::Resume),
    /// Show an installation's log
    Logs(logs::Logs),
    /// List points with their latest readings
    Points(points::Points),
    /// Read the journal back
    Readings(readings::Readings),
    /// Push readings, one JSON object on each line
    Push(push::Push),
    /// Show an installation's outputs
    Outputs(outputs::Outputs),
    /// List alarms, or acknowledge them
    Alarms(alarms::Alarms),
    /// Show an installation's state
    State(state::State),
    /// List readings that were set aside, run them again, or delete them
    DeadLetters(dead_letters::DeadLetters),
    /// List an installation's invocations
    Invocations(invocations::Invocations),
    /// List packages, show what an app asks for, or delete one
    Packages(packages::Packages),
    /// List connectors and their status
    Connectors(connectors::Connectors),
    /// Show the site's clock, or leave a wrong future behind
    Clock(clock::Clock),
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
            Self::Serve(_) => Ok(()),
            Self::New(command) => Ok(new::run(&command)?),
            Self::Build(command) => Ok(build::run(&command, global.json)?),
            Self::Install(command) => command.run(global),
            Self::Uninstall(command) => command.run(global),
            Self::List(command) => command.run(global),
            Self::Show(command) => command.run(global),
            Self::Pause(command) => command.run(global),
            Self::Resume(command) => command.run(global),
            Self::Logs(command) => command.run(global),
            Self::Points(command) => command.run(global),
            Self::Readings(command) => command.run(global),
            Self::Push(command) => command.run(global),
            Self::Outputs(command) => command.run(global),
            Self::Alarms(command) => command.run(global),
            Self::State(command) => command.run(global),
            Self::DeadLetters(command) => command.run(global),
            Self::Invocations(command) => command.run(global),
            Self::Packages(command) => command.run(global),
            Self::Connectors(command) => command.run(global),
            Self::Clock(command) => command.run(global),
        }
    }
}
