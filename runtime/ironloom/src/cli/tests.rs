//! The command line: its arguments and its help.

use clap::{CommandFactory as _, Parser as _};

use super::*;

fn help(names: &[&str]) -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut found = &mut command;
    for name in names {
        found = found.find_subcommand_mut(name).unwrap();
    }
    found.render_help().to_string()
}

#[test]
fn the_arguments_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn help_says_what_there_is() {
    insta::assert_snapshot!("help", help(&[]));
    insta::assert_snapshot!("help_install", help(&["install"]));
}

/// Each command and each argument below it that has no help, by its path.
fn without_help(command: &clap::Command, path: &str) -> Vec<String> {
    let path = format!("{path} {}", command.get_name());
    let mut found = Vec::new();
    if command.get_about().is_none() {
        found.push(path.clone());
    }
    let arguments = command.get_arguments().filter(|argument| argument.get_help().is_none());
    found.extend(arguments.map(|argument| format!("{path} {}", argument.get_id())));
    found.extend(command.get_subcommands().flat_map(|inner| without_help(inner, &path)));
    found
}

#[test]
fn each_command_and_each_argument_has_a_help_text() {
    let found = without_help(&Cli::command(), "");
    assert!(found.is_empty(), "no help for {found:?}");
}

#[test]
fn misuse_is_told() {
    for (arguments, part) in [
        (&["ironloom"][..], "Usage"),
        (&["ironloom", "weave"][..], "unrecognized subcommand 'weave'"),
        (&["ironloom", "install", "a.tar", "--bind", "weight"][..], "must be NAME=VALUE"),
        (&["ironloom", "show"][..], "required"),
        (&["ironloom", "logs", "pigs", "--since", "1 h", "--last", "3"][..], "cannot be used with"),
        (&["ironloom", "logs", "pigs", "--all", "--limit", "3"][..], "cannot be used with"),
        (&["ironloom", "resume", "pigs", "--backlog", "eat"][..], "possible values: keep, drop"),
    ] {
        let error = Cli::try_parse_from(arguments).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
        assert!(error.to_string().contains(part), "{arguments:?}: {error}");
    }
}
