//! Every key of the configuration with its default and its description: the one place for all three.

/// The most that `[batch] max_readings` can be: apps are promised no more.
pub(crate) const MAX_BATCH_READINGS: u32 = 16_384;

/// A key of a section that is always there.
struct Key {
    section: &'static str,
    name: &'static str,
    /// The default, as written in the file.
    default: &'static str,
    /// One line or several.
    doc: &'static str,
}

const fn key(section: &'static str, name: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { section, name, default, doc }
}

const KEYS: &[Key] = &[
    key(
        "server",
        "listen",
        "\"127.0.0.1:7420\"",
        "Address and port of the API. Port 0 picks one. An address that isn't loopback needs [server.tls]\n\
        and tokens, or `--insecure-bind`.",
    ),
    key(
        "server",
        "hosts",
        "[]",
        "Further names by which the server may be called (the Host header), such as that of\nits certificate, or of a proxy \
        with a login in front of it. Web pages of these names, over TLS too, may call it.",
    ),
    key(
        "server",
        "tokens",
        "\"auto\"",
        "Who needs a token: \"required\": everybody; \"optional\": nobody, and whoever shows none may do everything;\n\
        \"auto\": everybody, unless `listen` is loopback.",
    ),
    key(
        "server",
        "connections",
        "1024",
        "Connections at a time, 16 to 65536, and 32 more for small requests. Beyond, the one idle the longest is closed.",
    ),
    key(
        "server",
        "connections_per_address",
        "256",
        "Those of one address that isn't loopback; of IPv6, of one /64. Beyond, its own idle ones are closed.",
    ),
    key(
        "server",
        "idle",
        "\"30 s\"",
        "The longest that the headers of a request may take to come, and that a connection may do nothing between two,\n\
        1 s to 1 h.",
    ),
    key(
        "server",
        "rate",
        "200",
        "Requests in a second of each token, sustained, and twice as many at once. Beyond: 429. Of a program of this\n\
        machine that needs no token none is counted.",
    ),
    key("server", "rate_of_pushes", "10000", "Likewise, of requests that push readings."),
    key(
        "server",
        "rate_without_token",
        "50",
        "Likewise, of requests without a token that is known, of each address; of IPv6, of each /64.",
    ),
    key(
        "server",
        "rate_of_connections",
        "100",
        "Likewise, of new connections of each address that isn't loopback. Beyond, they are closed.",
    ),
    key(
        "server",
        "log",
        "\"info\"",
        "The server's own log lines on stderr: off, error, warn, info, debug or trace, with levels of parts if need \
         be, such as\n\"info,ironloom::lanes=debug\". The environment's IRONLOOM_LOG goes before it.",
    ),
    key(
        "server.tls",
        "certificate",
        "\"\"",
        "The file of the server's certificate (PEM), and behind it those between it and its authority. With it the server\n\
        speaks TLS 1.2 and 1.3 and nothing else. `ironloom reload` and SIGHUP read it anew. Empty: no TLS.",
    ),
    key(
        "server.tls",
        "key",
        "\"\"",
        "The file of its secret key (PEM), which only the server's user and its group may read.",
    ),
    key(
        "store",
        "engine",
        "\"redb\"",
        "The storage engine: \"redb\" or \"sled\". It can't be changed for a data folder\n\
        that has a store.",
    ),
    key(
        "store",
        "reserve",
        "\"256 MiB\"",
        "With less free disk space, pushes get 507, and apps and installs stop; they go \
        on\nabove 1.5 times as much. At least two of `log.segment` and 64 MiB.",
    ),
    key("store", "cache", "\"256 MiB\"", "Memory for state that is on the disk."),
    key(
        "store",
        "dirty",
        "\"256 MiB\"",
        "Memory for state that is only in the log. Apps wait when it is full.",
    ),
    key(
        "log",
        "checkpoint",
        "\"256 MiB\"",
        "When this much of the log waits, a checkpoint folds its oldest part into the store. A\n\
        restart reads the rest again, at most `max`.",
    ),
    key(
        "log",
        "max",
        "\"1 GiB\"",
        "When the log has grown this far past the last checkpoint, pushes get 503. At least\n\
        `checkpoint`, two of `segment` and 64 MiB.",
    ),
    key("log", "segment", "\"64 MiB\"", "Size of one file of the log, 64 MiB to 1 GiB."),
    key(
        "log",
        "fold_at_stop",
        "\"5 s\"",
        "The time that a stop has to fold the log into the store, at most 1 h. The next start reads what\nis left. \
         Whoever stops the server must wait for as long (in systemd `TimeoutStopSec`).",
    ),
    key(
        "journal",
        "max_age",
        "\"off\"",
        "Readings that were recorded longer ago than this are deleted, such as \"90 d\"; at least 1 h. An app that hasn't\n\
        got to them misses them, and is told so.",
    ),
    key(
        "journal",
        "max_bytes",
        "\"off\"",
        "The oldest readings are deleted where those at rest take more than this, at least \"256 MiB\". Files\n\
        of 64 MiB go as a whole.",
    ),
    key(
        "invocations",
        "max_age",
        "\"journal\"",
        "Summaries of invocations with an earlier time are deleted: \"journal\", as `max_age` there, a time such as\n\
        \"90 d\", at least 1 h, or \"off\". A replay begins with the first.",
    ),
    key(
        "alarms",
        "max_age",
        "\"off\"",
        "Episodes of alarms that have been over for longer than this are deleted, such as \"400 d\"; likewise. What is\n\
        active, unacknowledged or shelved stays.",
    ),
    key(
        "dead_letters",
        "max_age",
        "\"journal\"",
        "Dead letters whose readings were recorded longer ago than this are deleted; likewise. \"off\" leaves them to \
        whoever\nrequeues or deletes them.",
    ),
    key(
        "audit",
        "max_age",
        "\"off\"",
        "Entries older than this are deleted; \"journal\": than `[journal] max_age`. What goes is gone for every check: export it \
        before.",
    ),
    key(
        "copies",
        "every",
        "\"24 h\"",
        "How often the state of each installation is copied without an upgrade, where something has changed; or \"off\". At least 1 min.",
    ),
    key(
        "copies",
        "number",
        "3",
        "Copies of each installation, 0 to 100: beyond that, the oldest goes. With 0 none is made, and no upgrade can be rolled\nback.",
    ),
    key(
        "copies",
        "bytes",
        "\"4 GiB\"",
        "State that the copies of all installations may have together: beyond that, the oldest goes. The one from before an upgrade\nthat \
        nobody has committed stays; an upgrade for which there is no room is refused.",
    ),
    key(
        "copies",
        "commit_after",
        "\"24 h\"",
        "How long an upgrade may be rolled back, unless somebody commits it before. At least 1 s.",
    ),
    key("ingest", "max_future", "\"5 min\"", "How far ahead of the clock a reading's `at` may be."),
    key(
        "ingest",
        "max_lag",
        "\"off\"",
        "Sources are slowed where an installation that must keep up (`ironloom install --keep-up`) is\nbehind by more than \
        this, 100 ms to 1 h.",
    ),
    key("batch", "max_readings", "16384", "Most readings of one invocation, 1 to 16384."),
    key("batch", "max_bytes", "\"4 MiB\"", "Most bytes of readings of one invocation."),
    key(
        "sandbox",
        "code",
        "\"256 MiB\"",
        "Memory for the code of apps. Beyond it the code that was used the longest ago goes, and is\nloaded \
        again when it is needed.",
    ),
    key(
        "sandbox",
        "allocator",
        "\"pool\"",
        "Where the memories of invocations come from: \"pool\", or \"on-demand\", which is slower and shows in a\nreplay \
        that what apps do doesn't depend on it.",
    ),
    key(
        "limits",
        "memory",
        "\"32 MiB\"",
        "Memory of an invocation, unless manifest or grant says otherwise.",
    ),
    key(
        "limits",
        "cpu",
        "\"200 ms\"",
        "CPU time of an invocation, likewise. Its wall time may be ten times as long.",
    ),
    key("limits", "state", "\"64 MiB\"", "State of an installation, likewise."),
    key(
        "limits",
        "share",
        "\"500 ms\"",
        "CPU time of an installation in each second, likewise, at most 1 s: its invocations run one after the \
        other. Unused time is saved up, to 2 s. Beyond that, it waits.",
    ),
    key(
        "limits",
        "points",
        "10000",
        "Points that the outputs of an installation may create, likewise. Beyond, `publish` is refused.",
    ),
    key(
        "site",
        "timezone",
        "\"UTC\"",
        "Time zone of apps' timers, by its IANA name, such as \"Europe/Berlin\". An installation\nkeeps the one that it was \
        installed with; the start logs which have another.",
    ),
    key(
        "site",
        "clock",
        "\"host\"",
        "\"host\", or \"feed\": time comes from the readings' `at`, for demos, tests and \
        replays.\n\"feed\" needs a loopback address.",
    ),
    key(
        "policy",
        "unsigned",
        "false",
        "Packages that nobody has signed may be installed, such as those that are being written.\n`serve \
         --allow-unsigned` says the same.",
    ),
    key(
        "policy",
        "publishers",
        "[]",
        "Public keys of which one must have signed a package, such as \"ed25519:…\". Empty: any.",
    ),
    key("policy", "publishers_denied", "[]", "Public keys whose packages are refused."),
    key(
        "policy",
        "apps",
        "[]",
        "The apps that may be installed: ids, or their beginnings up to a dot, such as \"com.example\". Empty: any.",
    ),
    key("policy", "apps_denied", "[]", "Apps that are refused; likewise."),
    key(
        "policy",
        "categories",
        "[]",
        "Categories of which an app must have one, as a catalog has them. Empty: any.",
    ),
    key("policy", "categories_denied", "[]", "Categories whose apps are refused."),
    key(
        "policy",
        "capabilities",
        "[]",
        "What apps may do besides reading: outputs, set-points, alarms, timers, schedule. Empty: all.",
    ),
    key("policy", "capabilities_denied", "[]", "What no app may do; likewise."),
    key(
        "policy",
        "max_memory",
        "\"256 MiB\"",
        "The most that an installation gets of each limit, whatever its app asks for and whatever is granted.",
    ),
    key("policy", "max_cpu", "\"10 s\"", "Likewise."),
    key("policy", "max_state", "\"16 GiB\"", "Likewise."),
    key("policy", "max_share", "\"1 s\"", "Likewise."),
    key("policy", "max_points", "750000", "Likewise."),
    key(
        "policy",
        "set_point_every",
        "\"off\"",
        "The least time between two set-points of a point, whatever is granted, at least 1 ms; or \"off\".",
    ),
    key(
        "catalogs",
        "ca",
        "[]",
        "Files with certificates (PEM) of authorities that web servers and registries are held against, besides those of\n\
         the system.",
    ),
    key(
        "catalogs",
        "logins",
        "\"\"",
        "A file with logins for registries, as `docker login` or `podman login` writes it. Empty: none.",
    ),
];

const SECTIONS: &[(&str, &str)] = &[
    ("server", "The HTTP API."),
    ("server.tls", "Its certificate."),
    ("store", "Storage."),
    ("log", "The log, which is written first, and is durable before anything is acknowledged."),
    (
        "journal",
        "Readings that are kept. Without a limit the disk fills in the end, and `store.reserve` ends pushes.",
    ),
    (
        "invocations",
        "What is kept of invocations: the newest 100,000 of each installation, and of these as many as are young enough.",
    ),
    (
        "alarms",
        "The history of alarms: the newest 10,000 episodes of each installation, 8 MiB at most, likewise.",
    ),
    (
        "dead_letters",
        "Readings that were set aside: the newest 10,000 of each installation, 64 MiB at most, likewise.",
    ),
    ("audit", "Who did what: the newest 1,000,000 entries of each chain of the audit log."),
    (
        "copies",
        "Copies of installations' state: before another version comes, and now and then. `ironloom rollback` goes back to one.",
    ),
    ("ingest", "What comes in."),
    ("batch", "The readings that an app gets at once. The rest waits for the next invocation."),
    ("sandbox", "The code of apps."),
    (
        "limits",
        "Limits of apps. An installation keeps the limits that it was installed with: a change here holds for\n# later installs. \
         The start logs which installations have other limits.",
    ),
    ("site", "Where this is."),
    ("policy", "The packages that this host lets run, whoever installs them. What runs already goes on."),
    ("catalogs", "The places that catalogs are read from."),
];

/// Sections with names of the user's choice, which have no default.
const EXAMPLES: &str = r#"# The unit of matching points whose source names none. `{name}` matches one segment.
#
# [points."farm/{barn}/pig/{tag}/weight"]
# unit = "kg"

# A source of readings besides the API. The section's name is the connector's name.
#
# [connectors.herd]
# kind = "csv"                  # replays a file with a header line
# path = "herd.csv"             # relative to the folder of this file
# delimiter = ","               # between cells: the default. ";" or "\t" as well
# decimal = "."                 # the decimal mark: the default. Or ","
# at = "at"                     # the column with the time: RFC 3339, a date, or a date and time. Lines with the
#                               # same time, one after the other, become one record
# timezone = "Europe/Berlin"    # of times without an offset. Default: that of [site]. In the hour that comes
#                               # twice in autumn, the first is meant
# at_unit = "s"                 # the unit of a time that is a number, counted from 1970: "s", "ms", "us" or "ns". Without it
#                               # only nanoseconds of 1973 or later are taken
# speed = 604800.0              # seconds of the file in one second; 0, the default: as fast as possible
# loop = true                   # repeats endlessly; or a number of laps. Default: false, once
# shift = "84 d"                # added to the times with each further lap. Default: nothing
# missing = ["", "NA"]          # cells without a value: the default
# points = 250000               # the most points that its columns may name: the default. Before one more it stops
# wait_for = ["pigs"]           # installations that must be there before it begins. Default: none. For every kind
#
# A line whose time or number of cells is wrong is passed over and counted; a cell that isn't of its type becomes
# a reading of quality "bad"; a time before 1970 is kept as 1970, of quality "uncertain". A last line without a line
# feed is taken once the file hasn't changed for 10 s; if a quoted cell of it hasn't ended by then, it is passed over. A
# restart goes on where it was, also in a file that has grown. A file that no longer begins as it did is read from its
# beginning, also if it was changed while it was read.
#
# [connectors.herd.columns.Weight]
# point = "farm/barn-{lap}/pig/{Pig}/weight"   # {Pig}: the line's cell in that column; {lap}: from 1.
#                               # A cell that is empty or has a "/" is passed over; paths go at the end, as "{Pig}" or "copy/{Pig}"
# type = "real"                 # or "integer", "boolean", "text"
# unit = "kg"                   # may be left out. A point that has another unit is passed over
#
# [connectors.plant]
# kind = "mqtt"                 # takes what a broker sends
# broker = "mqtts://plant:8883" # or mqtt://plant:1883 without TLS
# client_id = "ironloom-plant"  # the broker keeps the session, and what comes meanwhile, by it: nobody else may have it
# version = "5"                 # or "3.1.1". Default: 5 where the broker speaks it, else 3.1.1
# user = "ironloom"             # may be left out, as what follows
# password_file = "mqtt.key"    # or password_env = "NAME_OF_A_VARIABLE". Read anew for each connection
# ca = "ca.pem"                 # the authorities that the broker's certificate is held against. Default: those of the system
# certificate = "own.pem"       # for a broker that asks for one, with its key
# key = "own.key"
# keep_alive = "30 s"           # the longest pause between two packets: the default
# session_expiry = "7 d"        # the time for which the broker keeps the session: the default. Only with version 5
# receive_maximum = 10000       # messages that may be unacknowledged at a time: the default, and the most
# retained = "latest"           # messages that the broker has kept are taken where the point's latest value is another one:
#                               # the default. Or "all", or "none"
# points = 250000               # the most points that its topics may name: the default
#
# Topics, with a name in braces for each level that varies. The first that matches counts. A message that none matches, or
# that can't be read, is acknowledged and kept as a dead letter. `ironloom connector test plant --config FILE` shows what
# comes, without a server.
#
# [connectors.plant.topics."sensors/{line}/{signal}"]
# point = "plant/{line}/{signal}"
# payload = "value"             # a number, a JSON scalar, or a text as it is: the default. Or "reading", for
#                               # {"value": 20.5, "at": "2026-06-19T15:22:45Z", "quality": "good"}, of which the last two may be
#                               # missing; or "fields", for an object whose fields are values: point = "plant/{line}/{field}"
# type = "real"                 # or "integer", "boolean", "text". Default: "real"; of a field the type that its value has
# unit = "Cel"                  # may be left out. A point that has another unit is passed over
# scale = 0.1                   # a factor for reals
#
# Set-points go to machines: the points that outputs are bound to, with a topic for each.
#
# [connectors.plant.set_points."plant/{station}/limit"]
# topic = "stations/{station}/limit"
# payload = "json"              # {"value": 16, "number": 7, "id": "…", "expires": "…"}, a safe value without
#                               # the last two: the default. Or "value": 16
#
# What apps derive, and their alarms, go to others: at least once, in order. {entity...} is any number of levels.
#
# [connectors.plant.publish."apps/{app}/{output}/{entity...}"]
# topic = "ironloom/{app}/{output}/{entity...}"
# payload = "json"              # the default. Or "value": the value alone
# retain = false                # true: the broker keeps the last message of each topic. Default: false
#
# [connectors.plant.publish."alarms/{app}/{code}/{entity...}"]
# topic = "ironloom/alarms/{app}/{code}/{entity...}"
"#;

/// The default of a key.
pub(crate) fn default(section: &str, name: &str) -> &'static str {
    let key = KEYS.iter().find(|key| key.section == section && key.name == name);
    assert!(key.is_some(), "[{section}] {name} stands in the table of keys");
    key.map_or("", |key| key.default)
}

/// The names of all keys, as `section.name`.
#[cfg(test)]
pub(crate) fn all() -> Vec<String> {
    KEYS.iter().map(|key| format!("{}.{}", key.section, key.name)).collect()
}

/// A configuration file with every key and its default.
pub(crate) fn documented() -> String {
    let mut text = String::from("# The configuration of ironloom. Every key is shown with its default.\n");
    for (section, doc) in SECTIONS {
        text.push_str(&format!("\n# {doc}\n[{section}]\n"));
        for key in KEYS.iter().filter(|key| key.section == *section) {
            for line in key.doc.lines() {
                text.push_str(&format!("# {line}\n"));
            }
            text.push_str(&format!("{} = {}\n", key.name, key.default));
        }
    }
    text.push('\n');
    text.push_str(EXAMPLES);
    text
}
