//! Every key of the configuration with its default and what it does: the one place for all three.

/// The most that `[batch] max_readings` can be: apps are promised no more.
pub(crate) const MAX_BATCH_READINGS: u32 = 16_384;

/// A key of a section that is always there.
struct Key {
    section: &'static str,
    name: &'static str,
    /// As it would stand in the file.
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
        "Address and port of the API. Port 0 picks one. An address that \
        isn't loopback\nneeds `--insecure-bind` as well: there are no credentials yet.",
    ),
    key(
        "server",
        "hosts",
        "[]",
        "Further names by which the server may be called (the Host header), such as that of\na proxy with a \
        login in front of it. Web pages of these names, over TLS too, may call it.",
    ),
    key(
        "store",
        "engine",
        "\"sled\"",
        "What keeps everything at rest: \"sled\" or \"redb\". It can't be changed for a \
        data\nfolder that has one.",
    ),
    key(
        "store",
        "reserve",
        "\"256 MiB\"",
        "Below this much free disk, pushes get 507 and apps and installs stop; \
        they go on\nabove 1.5 times as much. At least two of `log.segment` and 64 MiB.",
    ),
    key("store", "cache", "\"256 MiB\"", "Memory for state that is on the disk."),
    key(
        "store",
        "dirty",
        "\"256 MiB\"",
        "Memory for state that is in the log only. Apps wait when it is full; up \
        to twice as\nmuch is used while a checkpoint runs.",
    ),
    key(
        "log",
        "checkpoint",
        "\"256 MiB\"",
        "After this much log a checkpoint folds it into the store. A restart \
        reads at most\n`max` of it again.",
    ),
    key(
        "log",
        "max",
        "\"1 GiB\"",
        "Where the log has grown this far past the last checkpoint, pushes get 503. At least\n\
        `checkpoint`, two of `segment` and 64 MiB.",
    ),
    key("log", "segment", "\"64 MiB\"", "Size of one file of the log, 64 MiB to 1 GiB."),
    key("ingest", "max_future", "\"5 min\"", "How far ahead of the clock a reading's `at` may be."),
    key("batch", "max_readings", "16384", "Most readings of one invocation, 1 to 16384."),
    key("batch", "max_bytes", "\"4 MiB\"", "Most bytes of readings of one invocation."),
    key(
        "limits",
        "memory",
        "\"32 MiB\"",
        "Memory of an invocation, where neither manifest nor grant says another.",
    ),
    key(
        "limits",
        "cpu",
        "\"200 ms\"",
        "CPU time of an invocation, likewise. By the clock it may take ten times as \
        much.",
    ),
    key("limits", "state", "\"64 MiB\"", "State of an installation, likewise."),
    key(
        "limits",
        "share",
        "\"500 ms\"",
        "CPU time of an installation in each second, likewise, at most 1 s: its invocations run one after the \
        other. What it doesn't use it saves up, to 2 s. Beyond, it waits.",
    ),
    key(
        "limits",
        "points",
        "10000",
        "Points that the outputs of an installation make, likewise. Beyond, `publish` is refused.",
    ),
    key(
        "site",
        "timezone",
        "\"UTC\"",
        "Time zone of apps' timers, by its IANA name, such as \"Europe/Berlin\". An installation\nkeeps the one that it was \
        installed with.",
    ),
    key(
        "site",
        "clock",
        "\"host\"",
        "\"host\", or \"feed\": time comes from the readings' `at`, for demos, tests and \
        replays.\n\"feed\" needs a loopback address.",
    ),
];

const SECTIONS: &[(&str, &str)] = &[
    ("server", "The HTTP API."),
    ("store", "What is kept at rest."),
    ("log", "What is written first, and durable before anything is acknowledged."),
    ("ingest", "What comes in."),
    ("batch", "How much an app gets at once. What is beyond waits for the next invocation."),
    (
        "limits",
        "What an app may use. An installation keeps the limits that it was installed with: a change here holds for\n# later installs.",
    ),
    ("site", "Where this is."),
];

/// What has a name of the user's choice, and no default.
const EXAMPLES: &str = r#"# The unit of points that match, where their source names none. `{name}` matches one segment.
#
# [points."farm/{barn}/pig/{tag}/weight"]
# unit = "kg"

# Where readings come from, besides the API. The section's name is the connector's.
#
# [connectors.herd]
# kind = "csv"                  # replays a file with a header line
# path = "herd.csv"             # from the folder of this file
# delimiter = ","               # between cells: the default. ";" or "\t" as well
# decimal = "."                 # the decimal mark: the default. Or ","
# at = "at"                     # the column with the time: RFC 3339, a date, or a date and time. Lines with the
#                               # same time one after the other are taken as one
# timezone = "Europe/Berlin"    # of times without an offset. Default: that of [site]. In the hour that comes
#                               # twice in autumn, the first is meant
# at_unit = "s"                 # what a time that is a number counts since 1970: "s", "ms", "us" or "ns". Without it
#                               # only nanoseconds of 1973 or later are taken
# speed = 604800.0              # seconds of the file in one second; 0, the default: as fast as it goes
# loop = true                   # again and again; or a number of laps. Default: false, once
# shift = "84 d"                # added to the times at each further lap. Default: nothing
# missing = ["", "NA"]          # cells that hold no value: the default
#
# A line whose time or number of cells is wrong is passed over and counted; a cell that isn't of its type becomes
# a reading of quality "bad"; a time before 1970 is kept as 1970, of quality "uncertain". A last line without a line
# feed is taken once the file hasn't changed for 10 s. A restart goes on where it was, also in a file that has grown.
#
# [connectors.herd.columns.Weight]
# point = "farm/barn-{lap}/pig/{Pig}/weight"   # {Pig}: that column of the line; {lap}: from 1
# type = "real"                 # or "integer", "boolean", "text"
# unit = "kg"                   # may be left out. A point that has another unit is passed over
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

/// A configuration file that says all there is to say, with the defaults.
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
