//! The keys in which two configurations differ, and whether a running server can take the new values.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::PathBuf;

use super::policy::most_of;
use super::{
    Batch, Config, Copies, History, Journal, Log, PointUnit, Policy, Rates, Sandbox, Server, Site, Store,
    TlsFiles,
};
use crate::catalogs::web::Access;
use crate::connectors::ConnectorConfig;
use ironloom_apps::allowance::{LimitKind, PartialLimits};
use ironloom_apps::consent::Capability;
use ironloom_apps::problem::join_path;
use ironloom_apps::quantity::Span;
use ironloom_types::clock;
use ironloom_types::text::listed;

/// A key that has another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The key with its section, such as `store.reserve`.
    pub key: String,
    /// The value in words; `None` where there was none.
    pub from: Option<String>,
    /// `None` where there is none any more.
    pub to: Option<String>,
    /// Only a start takes it.
    pub needs_restart: bool,
}

/// Changes in the order in which they are found.
#[derive(Default)]
struct Compared(Vec<Change>);

impl Compared {
    fn key<T: PartialEq>(&mut self, key: &str, [from, to]: [&T; 2], live: Live, show: impl Fn(&T) -> String) {
        if from != to {
            let (from, to) = (Some(show(from)), Some(show(to)));
            self.0.push(Change { key: key.to_owned(), from, to, needs_restart: live == Live::No });
        }
    }
}

/// Says if a running server takes a key.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Live {
    Yes,
    No,
}

fn text<T: Display>(value: &T) -> String {
    value.to_string()
}

fn text_or_off<T: Display>(value: &Option<T>) -> String {
    value.as_ref().map_or_else(|| "off".to_owned(), text)
}

/// All keys that differ, in the order of the file.
pub(crate) fn changes(from: &Config, to: &Config) -> Vec<Change> {
    // Taken apart, so that a new key can't be forgotten here.
    let Config {
        server,
        store,
        log,
        journal,
        history,
        copies,
        max_future,
        max_lag,
        batch,
        sandbox,
        limits: _,
        site,
        policy,
        catalogs,
        points,
        connectors,
    } = from;
    let mut found = Compared::default();
    of_server(&mut found, [server, &to.server]);
    of_store(&mut found, [store, &to.store]);
    of_log(&mut found, [log, &to.log]);
    of_journal(&mut found, [journal, &to.journal]);
    of_history(&mut found, [history, &to.history]);
    of_copies(&mut found, [copies, &to.copies]);
    found.key("ingest.max_future", [max_future, &to.max_future], Live::Yes, text);
    found.key("ingest.max_lag", [max_lag, &to.max_lag], Live::Yes, text_or_off);
    of_batch(&mut found, [batch, &to.batch]);
    of_sandbox(&mut found, [sandbox, &to.sandbox]);
    for kind in LimitKind::ALL {
        let (from, to) = (kind.of(&from.limits), kind.of(&to.limits));
        found.key(&format!("limits.{}", kind.name()), [&from, &to], Live::Yes, |limit| kind.show(*limit));
    }
    of_site(&mut found, [site, &to.site]);
    of_policy(&mut found, [policy, &to.policy]);
    of_catalogs(&mut found, [catalogs, &to.catalogs]);
    of_points(&mut found, [points, &to.points]);
    let names: BTreeSet<&String> = connectors.keys().chain(to.connectors.keys()).collect();
    for name in names {
        let both = [connectors.get(name), to.connectors.get(name)];
        if both[0] != both[1] {
            let [from, to] = both.map(|config| config.map(ConnectorConfig::source));
            let others = from.is_some() && from == to;
            let to = to.map(|to| if others { format!("{to}, by other keys") } else { to });
            found.0.push(Change { key: join_path("connectors", name), from, to, needs_restart: false });
        }
    }
    found.0
}

fn of_server(found: &mut Compared, [from, to]: [&Server; 2]) {
    let Server { listen, hosts, tokens, connections, connections_per_address, idle, rates, log, tls } = from;
    found.key("server.listen", [listen, &to.listen], Live::No, text);
    found.key("server.hosts", [hosts, &to.hosts], Live::No, |all| listed(all));
    found.key("server.tokens", [tokens, &to.tokens], Live::No, |rule| rule.name().to_owned());
    found.key("server.connections", [connections, &to.connections], Live::No, text);
    let per_address = [connections_per_address, &to.connections_per_address];
    found.key("server.connections_per_address", per_address, Live::No, text);
    found.key("server.idle", [idle, &to.idle], Live::No, text);
    let Rates { requests, pushes, strangers, connections: new } = rates;
    found.key("server.rate", [requests, &to.rates.requests], Live::No, text);
    found.key("server.rate_of_pushes", [pushes, &to.rates.pushes], Live::No, text);
    found.key("server.rate_without_token", [strangers, &to.rates.strangers], Live::No, text);
    found.key("server.rate_of_connections", [new, &to.rates.connections], Live::No, text);
    found.key("server.log", [log, &to.log], Live::Yes, text);
    // The listener takes another certificate, but none where there was one, nor one where there was none.
    let live = if tls.is_some() == to.tls.is_some() { Live::Yes } else { Live::No };
    let file = |of: fn(&TlsFiles) -> &PathBuf| [tls, &to.tls].map(|tls| tls.as_ref().map(of).cloned());
    let shown = |path: &Option<PathBuf>| {
        path.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string())
    };
    let [from, to_certificate] = file(|files| &files.certificate);
    found.key("server.tls.certificate", [&from, &to_certificate], live, shown);
    let [from, to_key] = file(|files| &files.key);
    found.key("server.tls.key", [&from, &to_key], live, shown);
}

fn of_store(found: &mut Compared, [from, to]: [&Store; 2]) {
    let Store { engine, reserve, cache, dirty } = from;
    found.key("store.engine", [engine, &to.engine], Live::No, |engine| engine.name().to_owned());
    found.key("store.reserve", [reserve, &to.reserve], Live::Yes, text);
    found.key("store.cache", [cache, &to.cache], Live::No, text);
    found.key("store.dirty", [dirty, &to.dirty], Live::No, text);
}

fn of_log(found: &mut Compared, [from, to]: [&Log; 2]) {
    let Log { checkpoint, max, segment, fold_at_stop } = from;
    found.key("log.checkpoint", [checkpoint, &to.checkpoint], Live::No, text);
    found.key("log.max", [max, &to.max], Live::No, text);
    found.key("log.segment", [segment, &to.segment], Live::No, text);
    found.key("log.fold_at_stop", [fold_at_stop, &to.fold_at_stop], Live::No, text);
}

fn of_journal(found: &mut Compared, [from, to]: [&Journal; 2]) {
    let Journal { max_age, max_bytes } = from;
    found.key("journal.max_age", [max_age, &to.max_age], Live::Yes, text_or_off);
    found.key("journal.max_bytes", [max_bytes, &to.max_bytes], Live::Yes, text_or_off);
}

fn of_history(found: &mut Compared, [from, to]: [&History; 2]) {
    let History { invocations, alarms, dead_letters, audit } = from;
    found.key("invocations.max_age", [invocations, &to.invocations], Live::Yes, text);
    found.key("alarms.max_age", [alarms, &to.alarms], Live::Yes, text);
    found.key("dead_letters.max_age", [dead_letters, &to.dead_letters], Live::Yes, text);
    found.key("audit.max_age", [audit, &to.audit], Live::Yes, text);
}

fn of_copies(found: &mut Compared, [from, to]: [&Copies; 2]) {
    let Copies { every, number, bytes, commit_after } = from;
    found.key("copies.every", [every, &to.every], Live::Yes, text_or_off);
    found.key("copies.number", [number, &to.number], Live::Yes, text);
    found.key("copies.bytes", [bytes, &to.bytes], Live::Yes, text);
    found.key("copies.commit_after", [commit_after, &to.commit_after], Live::Yes, text);
}

fn of_batch(found: &mut Compared, [from, to]: [&Batch; 2]) {
    let Batch { max_readings, max_bytes } = from;
    found.key("batch.max_readings", [max_readings, &to.max_readings], Live::Yes, text);
    found.key("batch.max_bytes", [max_bytes, &to.max_bytes], Live::Yes, text);
}

fn of_sandbox(found: &mut Compared, [from, to]: [&Sandbox; 2]) {
    let Sandbox { code, allocator } = from;
    found.key("sandbox.code", [code, &to.code], Live::No, text);
    found.key("sandbox.allocator", [allocator, &to.allocator], Live::No, |one| one.name().to_owned());
}

fn of_site(found: &mut Compared, [from, to]: [&Site; 2]) {
    let Site { timezone, clock } = from;
    found.key("site.timezone", [timezone, &to.timezone], Live::Yes, text);
    let name = |source: &clock::Source| match source {
        clock::Source::Host => "host".to_owned(),
        clock::Source::Feed => "feed".to_owned(),
    };
    found.key("site.clock", [clock, &to.clock], Live::No, name);
}

fn of_policy(found: &mut Compared, [from, to]: [&Policy; 2]) {
    let Policy {
        unsigned,
        publishers,
        publishers_denied,
        apps,
        apps_denied,
        categories,
        categories_denied,
        capabilities,
        capabilities_denied,
        limits,
        set_point_every,
    } = from;
    found.key("policy.unsigned", [unsigned, &to.unsigned], Live::Yes, text);
    found.key("policy.publishers", [publishers, &to.publishers], Live::Yes, |all| listed(all));
    found.key("policy.publishers_denied", [publishers_denied, &to.publishers_denied], Live::Yes, |all| {
        listed(all)
    });
    found.key("policy.apps", [apps, &to.apps], Live::Yes, |all| listed(all));
    found.key("policy.apps_denied", [apps_denied, &to.apps_denied], Live::Yes, |all| listed(all));
    found.key("policy.categories", [categories, &to.categories], Live::Yes, |all| listed(all));
    found.key("policy.categories_denied", [categories_denied, &to.categories_denied], Live::Yes, |all| {
        listed(all)
    });
    let names = |all: &BTreeSet<Capability>| listed(all.iter().map(|one| one.name()).collect::<Vec<_>>());
    found.key("policy.capabilities", [capabilities, &to.capabilities], Live::Yes, names);
    found.key("policy.capabilities_denied", [capabilities_denied, &to.capabilities_denied], Live::Yes, names);
    for kind in LimitKind::ALL {
        let of = |limits: &PartialLimits| limits.get(kind).unwrap_or_default();
        let (from, to) = (of(limits), of(&to.limits));
        found.key(&format!("policy.{}", most_of(kind)), [&from, &to], Live::Yes, |most| kind.show(*most));
    }
    let every = |every: &Option<Span>| every.unwrap_or(Span(0)).to_string();
    found.key("policy.set_point_every", [set_point_every, &to.set_point_every], Live::Yes, every);
}

fn of_catalogs(found: &mut Compared, [from, to]: [&Access; 2]) {
    let Access { ca, logins } = from;
    let shown = |all: &Vec<PathBuf>| listed(all.iter().map(|path| path.display()));
    found.key("catalogs.ca", [ca, &to.ca], Live::Yes, shown);
    let shown =
        |file: &Option<PathBuf>| file.as_ref().map_or("none".to_owned(), |file| file.display().to_string());
    found.key("catalogs.logins", [logins, &to.logins], Live::Yes, shown);
}

fn of_points(found: &mut Compared, [from, to]: [&[PointUnit]; 2]) {
    let by_pattern = |points: &[PointUnit]| -> BTreeMap<String, String> {
        // The configuration has each pattern once.
        points.iter().map(|point| (point.pattern.to_string(), point.unit.to_string())).collect()
    };
    let (from, to) = (by_pattern(from), by_pattern(to));
    let patterns: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    for pattern in patterns {
        let [from, to] = [from.get(pattern), to.get(pattern)];
        if from != to {
            let key = format!("{}.unit", join_path("points", pattern));
            found.0.push(Change { key, from: from.cloned(), to: to.cloned(), needs_restart: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    fn told(from: &str, to: &str) -> Vec<(String, String, bool)> {
        let read = |text: &str| Config::read(text).unwrap();
        let shown = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
        let changes = changes(&read(from), &read(to)).into_iter();
        changes
            .map(|change| {
                let went = format!("{} to {}", shown(change.from), shown(change.to));
                (change.key, went, change.needs_restart)
            })
            .collect()
    }

    #[test]
    fn every_key_that_differs_is_named_and_no_other() {
        let others = "[server]\nlisten = \"127.0.0.1:1\"\nhosts = [\"a\"]\ntokens = \"required\"\nlog = \"debug\"\nconnections = 2048\n\
            connections_per_address = 99\nidle = \"1 min\"\nrate = 99\nrate_of_pushes = 99\nrate_without_token = 99\nrate_of_connections = 7\n\
            [server.tls]\ncertificate = \"/a.pem\"\nkey = \"/a.key\"\n[store]\nengine = \"sled\"\n\
            reserve = \"1 GiB\"\ncache = \"1 GiB\"\ndirty = \"1 GiB\"\n[log]\ncheckpoint = \"128 MiB\"\nmax = \"2 GiB\"\n\
            segment = \"128 MiB\"\nfold_at_stop = \"1 min\"\n[journal]\nmax_age = \"90 d\"\nmax_bytes = \"1 GiB\"\n[invocations]\nmax_age = \"30 d\"\n\
            [alarms]\nmax_age = \"400 d\"\n[dead_letters]\nmax_age = \"off\"\n[audit]\nmax_age = \"400 d\"\n\
            [copies]\nevery = \"off\"\nnumber = 5\nbytes = \"1 GiB\"\ncommit_after = \"1 h\"\n[ingest]\nmax_future = \"1 h\"\nmax_lag = \"1 s\"\n[batch]\nmax_readings = 1\n\
            max_bytes = \"1 MiB\"\n[sandbox]\ncode = \"1 GiB\"\nallocator = \"on-demand\"\n[limits]\nmemory = \"1 MiB\"\ncpu = \"1 ms\"\n\
            state = \"1 MiB\"\nshare = \"1 ms\"\npoints = 1\n[site]\ntimezone = \"Europe/Berlin\"\nclock = \"feed\"\n[policy]\nunsigned = true\n\
            publishers = [\"ed25519:_FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU\"]\n\
            publishers_denied = [\"ed25519:_FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU\"]\n\
            apps = [\"com.example\"]\napps_denied = [\"com.other\"]\ncategories = [\"farm\"]\ncategories_denied = [\"energy\"]\n\
            capabilities = [\"alarms\"]\ncapabilities_denied = [\"timers\"]\nmax_memory = \"1 MiB\"\nmax_cpu = \"1 ms\"\n\
            max_state = \"1 MiB\"\nmax_share = \"1 ms\"\nmax_points = 1\nset_point_every = \"1 s\"\n[catalogs]\nca = [\"/ca.pem\"]\nlogins = \"/auth.json\"\n";
        let told_all = told("", others);
        let named: Vec<String> = told_all.iter().map(|(key, ..)| key.clone()).collect();
        assert_eq!(named, keys::all());
        assert_eq!(told(others, others), []);
        let restart: Vec<&str> =
            told_all.iter().filter(|(.., restart)| *restart).map(|(key, ..)| key.as_str()).collect();
        assert_eq!(
            restart,
            [
                "server.listen",
                "server.hosts",
                "server.tokens",
                "server.connections",
                "server.connections_per_address",
                "server.idle",
                "server.rate",
                "server.rate_of_pushes",
                "server.rate_without_token",
                "server.rate_of_connections",
                "server.tls.certificate",
                "server.tls.key",
                "store.engine",
                "store.cache",
                "store.dirty",
                "log.checkpoint",
                "log.max",
                "log.segment",
                "log.fold_at_stop",
                "sandbox.code",
                "sandbox.allocator",
                "site.clock"
            ]
        );
        let renewed = told(others, &others.replace("/a.", "/b."));
        let files = [("certificate", "pem"), ("key", "key")];
        let files =
            files.map(|(key, end)| (format!("server.tls.{key}"), format!("/a.{end} to /b.{end}"), false));
        assert_eq!(renewed, files);
        let went = |key: &str| told_all.iter().find(|(found, ..)| found == key).unwrap().1.clone();
        assert_eq!(went("invocations.max_age"), "journal to 30 d");
        assert_eq!(went("ingest.max_lag"), "off to 1 s");
        assert_eq!(went("limits.cpu"), "200 ms to 1 ms");
        assert_eq!(went("store.reserve"), "256 MiB to 1 GiB");
    }

    #[test]
    fn connectors_and_units_come_go_and_change() {
        let one = |name: &str, path: &str, more: &str| {
            format!(
                "[connectors.{name}]\nkind = \"csv\"\npath = \"{path}\"\nat = \"at\"\n{more}\n\
                     [connectors.{name}.columns.a]\npoint = \"p\"\ntype = \"real\"\n"
            )
        };
        let from = one("a", "a.csv", "")
            + &one("b", "b.csv", "")
            + &one("d", "d.csv", "")
            + "[points.\"a/{x}\"]\nunit = \"kg\"\n[points.\"b/{x}\"]\nunit = \"kg\"\n";
        let to = one("b", "c.csv", "")
            + &one("c", "c.csv", "")
            + &one("d", "d.csv", "speed = 2.0")
            + "[points.\"a/{x}\"]\nunit = \"g\"\n[points.\"c/{x}\"]\nunit = \"kg\"\n";
        let told = told(&from, &to);
        let expected = [
            ("points.\"a/{x}\".unit", "kg to g"),
            ("points.\"b/{x}\".unit", "kg to nothing"),
            ("points.\"c/{x}\".unit", "nothing to kg"),
            ("connectors.a", "a.csv to nothing"),
            ("connectors.b", "b.csv to c.csv"),
            ("connectors.c", "nothing to c.csv"),
            ("connectors.d", "d.csv to d.csv, by other keys"),
        ];
        assert_eq!(told, expected.map(|(key, went)| (key.to_owned(), went.to_owned(), false)));
    }
}
