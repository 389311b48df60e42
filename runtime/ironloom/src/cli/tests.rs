//! The command line: its arguments and its help; and a server that says what a test has it say.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::channel;

use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value as Json, json};

use super::*;
use crate::api::facade::Problem;
use crate::api::problem::PROBLEM_JSON;

/// Runs a command that fails, with a server that gives these answers, one to each request. Returns the failure, and the
/// bodies of the requests.
pub(super) fn run(arguments: &[&str], answers: Vec<Result<Json, Problem>>) -> (Failure, Vec<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (to, asked) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let mut socket = listener.accept().unwrap().0;
            to.send(body(&socket)).unwrap();
            let (status, kind, text) = match answer {
                Ok(json) => (200, "application/json", json.to_string()),
                Err(problem) => (problem.status, PROBLEM_JSON, serde_json::to_string(&problem).unwrap()),
            };
            let length = text.len();
            let head = format!("content-type: {kind}\r\ncontent-length: {length}\r\nconnection: close");
            write!(socket, "HTTP/1.1 {status} As asked\r\n{head}\r\n\r\n{text}").unwrap();
        }
    });
    let cli = Cli::try_parse_from([&["ironloom", "--url", &url], arguments].concat()).unwrap();
    let failure = cli.command.run(&cli.global).unwrap_err();
    // Each was noted before it was answered.
    (failure, asked.try_iter().collect())
}

/// Reads a request.
fn body(socket: &TcpStream) -> String {
    let (mut from, mut length) = (BufReader::new(socket), 0);
    loop {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(given) = line.strip_prefix("content-length:") {
            length = given.trim().parse().unwrap();
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).unwrap();
    String::from_utf8(body).unwrap()
}

/// A package as the API shows it.
pub(super) fn package() -> Json {
    json!({
        "digest": format!("sha256:{}", "0".repeat(64)), "id": "com.example.pigs", "name": "Pig ledger",
        "version": "0.1.0", "publisher": "", "description": "", "inputs": {}, "outputs": {},
        "settings": {
            "breed": {"type": "text"}, "age": {"type": "integer"},
            "market": {"type": "real"}, "loud": {"type": "boolean"},
        },
        "imports": [],
        "license": "", "alarms": {}, "timers": {}, "schedule": false, "limits": {}, "sdk": null,
    })
}

/// An installation of it, with these grants.
pub(super) fn installation(grants: &Json) -> Json {
    json!({
        "id": "pigs", "app": "com.example.pigs", "version": "0.1.0", "package": package()["digest"],
        "state": "running", "revision": 4, "generation": 1, "cursor": 9,
        "lag": {"readings": 0, "seconds": 0.0, "oldest": null}, "last_error": null,
        "counters": ironloom_types::work::Counters::default(),
        "bindings": {}, "grants": {"outputs": grants}, "settings": {}, "limits": {}, "timezone": "UTC",
    })
}

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
