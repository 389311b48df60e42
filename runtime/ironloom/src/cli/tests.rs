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

#[test]
fn misuse_is_told() {
    for (arguments, part) in [
        (&["ironloom"][..], "Usage"),
        (&["ironloom", "weave"][..], "unrecognized subcommand 'weave'"),
        (&["ironloom", "install", "a.tar", "--bind", "weight"][..], "must be NAME=VALUE"),
        (&["ironloom", "show"][..], "required"),
        (&["ironloom", "resume", "pigs", "--backlog", "eat"][..], "possible values: keep, drop"),
    ] {
        let error = Cli::try_parse_from(arguments).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{arguments:?}");
        assert!(error.to_string().contains(part), "{arguments:?}: {error}");
    }
}
