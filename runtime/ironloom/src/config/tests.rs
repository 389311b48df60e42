//! The configuration: defaults, and all mistakes at once.

use super::*;

#[test]
fn the_documented_file_is_the_default_and_names_every_key() {
    let text = Config::documented();
    let config = Config::read(&text).unwrap();
    assert_eq!(config, Config::read("").unwrap());
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.server.listen, "127.0.0.1:7420".parse().unwrap());
    let table: toml::Table = text.parse().unwrap();
    let mut named: Vec<String> = Vec::new();
    let mut sections: Vec<(String, &toml::Value)> =
        table.iter().map(|(name, keys)| (name.clone(), keys)).collect();
    while let Some((section, keys)) = sections.pop() {
        for (key, value) in keys.as_table().unwrap() {
            let name = format!("{section}.{key}");
            if value.is_table() { sections.push((name, value)) } else { named.push(name) }
        }
    }
    let mut all = keys::all();
    named.sort();
    all.sort();
    assert_eq!(named, all);
}

#[test]
fn the_examples_are_valid_once_uncommented() {
    let text = Config::documented();
    let from = text.find("# The unit of matching points").unwrap();
    let plain: Vec<&str> = text[from..]
        .lines()
        .filter(|line| line.starts_with("# [") || line.contains(" = "))
        .map(|line| line.trim_start_matches("# "))
        .collect();
    let config = Config::read(&plain.join("\n")).unwrap();
    assert_eq!(config.points[0].unit.as_ref(), "kg");
    assert!(config.connectors.contains_key("herd") && config.connectors.contains_key("plant"));
}

fn errors(text: &str) -> String {
    Config::read(text).unwrap_err().to_string()
}

#[test]
fn all_errors_come_at_once_with_line_and_column() {
    let text = r#"
[server]
listen = "here"
hots = []
hosts = ["http://loom.local", "loom.local:7420", "loom.local", "::1"]

[store]
engine = "mysql"
reserve = "1.5 MB"
dirty = "0 B"

[log]
max = "64 MiB"
segment = 64

[batch]
max_readings = 20_000

[limits]
memory = "1.5 GiB"
cpu = "1 h"
state = "0 B"
share = "200"

[site]
timezone = "Mars/Olympus"
clock = "sun"

[points."a//b"]
unit = 7
[points."{a}/{a}"]
unit = "kg"
[points."{a b}"]

[connectors."two words"]
kind = "opc"

[colour]
"#;
    insta::assert_snapshot!(errors(text));
}

#[test]
fn limits_of_connections_and_files_of_a_certificate_are_checked() {
    let text = "[server]\nconnections = 64\nidle = \"2 min\"\nrate = 7\n[server.tls]\ncertificate = \"a.pem\"\nkey = \"a.key\"\n";
    let server = Config::read(text).unwrap().server;
    assert_eq!((server.connections, server.idle, server.rates.requests), (64, Span(120_000_000_000), 7));
    let files = server.tls.unwrap();
    assert_eq!((files.certificate, files.key), ("a.pem".into(), "a.key".into()));
    assert_eq!(Config::read("").unwrap().server.tls, None);
    for (wrong, told) in [
        ("[server]\nconnections = 15\n", "server.connections: must lie within 16 to 65536"),
        ("[server]\nconnections_per_address = 0\n", "must lie within 1 to 65536"),
        ("[server]\nidle = \"0 s\"\n", "server.idle: must lie within 1 s to 1 h"),
        ("[server]\nrate = 0\n", "server.rate: must lie within 1 to 1000000"),
        ("[server]\nrate_without_token = -1\n", "must lie within 1 to 1000000"),
        ("[server]\nrate_of_connections = 0\n", "server.rate_of_connections: must lie within 1 to 1000000"),
        ("[server.tls]\nkey = \"a.key\"\n", "server.tls: needs both `certificate` and `key`, or neither"),
        ("[server.tls]\npassphrase = \"x\"\n", "server.tls.passphrase: is not known"),
    ] {
        assert!(errors(wrong).contains(told), "{}", errors(wrong));
    }
}

#[test]
fn no_secret_stands_in_the_file_and_none_that_does_is_told() {
    let key = "-----BEGIN PRIVATE KEY-----hunter2";
    let broker = "[connectors.a]\nkind = \"mqtt\"\nclient_id = \"a\"\n";
    for (text, told) in [
        (format!("[server.tls]\ncertificate = \"a\"\nkey = \"{key}\"\n"), "the name of a file"),
        (format!("{broker}broker = \"mqtt://root:hunter2@plant\"\n"), "password_file"),
        (format!("{broker}broker = \"mqtt://plant\"\npassword = \"hunter2\"\n"), "password_file"),
        (format!("{broker}broker = \"mqtt://plant\"\nkey = \"{key}\"\n"), "the name of a file"),
        (format!("{broker}broker = \"mqtt://plant\"\npassword_file = 'hunter2\n"), "not valid TOML"),
        (
            "[catalogs]\nlogins = '{\"auths\":{\"a\":{\"auth\":\"hunter2\"}}}'\n".to_owned(),
            "the name of a file",
        ),
        ("[server]\ntoken = \"hunter2\"\n".to_owned(), "server.token: is not known"),
        ("[server]\ntokens = \"ilm_hunter2\"\n".to_owned(), "must be auto, required or optional"),
    ] {
        let errors = Config::read(&text).unwrap_err();
        let said = format!("{errors} {errors:?}");
        assert!(said.contains(told), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn sizes_and_spans_are_written_as_in_a_manifest() {
    let text = "[store]\nreserve = \"1.5 GiB\"\n[limits]\ncpu = \"1.5 s\"\nmemory = \"40000 kB\"\n\
                [ingest]\nmax_future = \"1.5 h\"\nmax_lag = \"2 s\"\n";
    let config = Config::read(text).unwrap();
    assert_eq!(config.store.reserve, Bytes(3 << 29));
    assert_eq!((config.limits.cpu, config.limits.memory), (1_500_000_000, 40_000_000));
    assert_eq!(config.max_future, Span(5_400_000_000_000));
    assert_eq!(config.max_lag, Some(Span(2_000_000_000)));
    assert_eq!(Config::read("").unwrap().max_lag, None);
    for wrong in ["99 ms", "61 min", "on"] {
        let error = errors(&format!("[ingest]\nmax_lag = \"{wrong}\"\n"));
        assert!(error.starts_with("2:11: ingest.max_lag: "), "{error}");
    }
}

#[test]
fn the_log_has_room_for_a_checkpoint_to_begin_and_end() {
    let error = errors("[log]\ncheckpoint = \"256 MiB\"\nmax = \"300 MiB\"\n");
    assert!(
        error.starts_with("3:7: log.max: must be at least 448 MiB, which is `checkpoint`, two of `segment`"),
        "{error}"
    );
    // The default of `max` is too low for it.
    assert!(errors("[log]\ncheckpoint = \"1 GiB\"\n").starts_with("1:2: log.max: must be at least"));
    assert!(Config::read("[log]\ncheckpoint = \"832 MiB\"\n").is_ok());
    assert!(Config::read("[log]\ncheckpoint = \"833 MiB\"\n").is_err());
    // A segment of the log's size is never freed while it is the active one.
    assert!(errors("[log]\nsegment = \"1 GiB\"\n").contains("1:2: log.max: must be at least 2368 MiB"));
}

#[test]
fn faults_of_the_syntax_have_a_place() {
    let errors = Config::read("[server\nlisten = 1").unwrap_err();
    assert_eq!(errors.0[0].line, Some(1));
}

#[test]
fn a_csv_connector_is_told_all_that_is_wrong_with_it() {
    let text = r#"
[connectors.herd]
kind = "csv"
path = 7
at = "at"
at_unit = "min"
timezone = "Europe/Nowhere"
delimiter = ";;"
decimal = "'"
speed = -1
loop = 0
shift = "84"
missing = "NA"
[connectors.herd.columns.Weight]
point = "apps/{Pig}"
type = "float"
unit = "kilo gram"

[connectors.again]
kind = "csv"
path = "herd.csv"
at = "at"
loop = true
delimiter = ","
decimal = ","
"#;
    insta::assert_snapshot!(errors(text));
}

#[test]
fn the_reserve_lets_the_log_go_on() {
    let least = |reserve: &str| errors(&format!("[store]\nreserve = \"{reserve}\"\n"));
    assert!(least("191 MiB").contains("store.reserve: must be at least 192 MiB"), "{}", least("191 MiB"));
    assert!(Config::read("[store]\nreserve = \"192 MiB\"\n").is_ok());
    // The default is for the default segment.
    let large = "[log]\nsegment = \"512 MiB\"\nmax = \"2 GiB\"\n";
    assert!(errors(large).contains("store.reserve: must be at least 1088 MiB"), "{}", errors(large));
    assert!(Config::read(&format!("[store]\nreserve = \"1088 MiB\"\n{large}")).is_ok());
}

#[test]
fn retention_is_off_or_long_enough() {
    let config = Config::read("[journal]\nmax_age = \"90 d\"\nmax_bytes = \"1 GiB\"\n").unwrap();
    assert_eq!(config.journal.max_age, Some(Span(90 * 24 * 3_600_000_000_000)));
    assert_eq!(config.journal.max_bytes, Some(Bytes(1 << 30)));
    let wrong = errors("[journal]\nmax_age = \"59 min\"\nmax_bytes = \"255 MiB\"\n");
    assert!(wrong.contains("must be \"off\" or at least 1 h"), "{wrong}");
    assert!(wrong.contains("must be \"off\" or at least 256 MiB"), "{wrong}");
}

#[test]
fn histories_are_kept_as_long_as_the_journal_or_as_they_say() {
    let days = |days: u64| Some(Span(days * 24 * 3_600_000_000_000));
    let ages = |text: &str| {
        let Config { journal, history, .. } = Config::read(text).unwrap();
        [history.invocations, history.alarms, history.dead_letters].map(|age| age.beside(&journal))
    };
    assert_eq!(ages(""), [None; 3]);
    assert_eq!(ages("[journal]\nmax_age = \"90 d\"\n"), [days(90), None, days(90)]);
    let own = "[invocations]\nmax_age = \"30 d\"\n[alarms]\nmax_age = \"journal\"\n[dead_letters]\nmax_age = \"off\"\n";
    assert_eq!(ages(&format!("[journal]\nmax_age = \"90 d\"\n{own}")), [days(30), days(90), None]);
    let wrong = errors(
        "[invocations]\nmax_age = \"59 min\"\n[alarms]\nmax_age = \"a year\"\n[dead_letters]\nage = 1\n",
    );
    assert!(
        wrong.contains("2:11: invocations.max_age: must be \"journal\", \"off\" or at least 1 h"),
        "{wrong}"
    );
    assert!(
        wrong
            .contains("4:11: alarms.max_age: \"a year\" is not an age; write \"journal\", \"off\" or a time"),
        "{wrong}"
    );
    assert!(wrong.contains("6:1: dead_letters.age"), "{wrong}");
}
