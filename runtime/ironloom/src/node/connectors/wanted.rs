//! The connectors that are to be there: those of the configuration file, and those of the log.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::tz::TimeZone;

use crate::connectors::{ConnectorConfig, ConnectorTable, Origin, Wanted};
use crate::records::connector::ConnectorRecord;

/// The surroundings that connectors are read with: the zone of times that name none, and the folder of file names.
pub(super) struct Surroundings<'a> {
    pub zone: &'a TimeZone,
    pub folder: &'a Path,
}

/// Puts both together. The file's connectors are its own: of what the log has of their names only a stop counts.
pub(super) fn wanted(
    file: &BTreeMap<String, ConnectorConfig>,
    log: &BTreeMap<Box<str>, ConnectorRecord>,
    surroundings: &Surroundings<'_>,
) -> BTreeMap<String, Wanted> {
    let mut all = BTreeMap::new();
    for (name, config) in file {
        let of_log = log.get(name.as_str());
        let wanted = Wanted {
            config: Ok(config.clone()),
            origin: Origin::File,
            stopped: of_log.is_some_and(|of_log| of_log.stopped),
            note: of_log.and_then(|of_log| of_log.table.as_ref()).map(|_| overridden(name)),
        };
        all.insert(name.clone(), wanted);
    }
    for (name, of_log) in log.iter().filter(|(name, _)| !file.contains_key(&***name)) {
        // A file's connector that was stopped, and that the file doesn't have any more.
        let Some(table) = &of_log.table else { continue };
        let (origin, stopped) = (Origin::Api, of_log.stopped);
        let config = read(table, surroundings);
        all.insert(name.to_string(), Wanted { config, origin, stopped, note: None });
    }
    all
}

/// A note for people where both have a name.
pub(in crate::node) fn overridden(name: &str) -> String {
    format!(
        "the configuration file has a connector of this name, and its keys count: those that were given over the API are kept, \
         and count again where the file has none; `ironloom connectors remove {name}` takes them away"
    )
}

/// Reads the table of a record. It was read before it was written: what is wrong now is new, such as the rules of another
/// version.
fn read(table: &str, surroundings: &Surroundings<'_>) -> Result<ConnectorConfig, String> {
    let again = "what was added over the API can't be read; give it anew by `ironloom connectors add`";
    let table: ConnectorTable = serde_json::from_str(table).map_err(|error| format!("{again}: {error}"))?;
    ConnectorConfig::of_table(&table, surroundings.zone, surroundings.folder)
        .map_err(|problems| format!("{again}: {problems}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn record(name: &str, table: Option<&str>, stopped: bool) -> (Box<str>, ConnectorRecord) {
        (name.into(), ConnectorRecord { name: name.into(), table: table.map(Box::from), stopped })
    }

    #[test]
    fn the_file_goes_before_the_log_and_a_stop_counts_for_both() {
        let text = "[connectors.a]\nkind = \"csv\"\npath = \"a.csv\"\nat = \"at\"\n[connectors.a.columns.v]\npoint = \"p\"\n";
        let file = Config::read(text).unwrap().connectors;
        let table = r#"{"kind":"csv","path":"b.csv","at":"at","columns":{"v":{"point":"p"}}}"#;
        let log = [
            record("a", Some(table), true),
            record("b", Some(table), false),
            record("c", Some("{\"kind\":\"smoke\"}"), false),
            record("d", None, true),
            record("e", Some(table), true),
        ];
        let surroundings = Surroundings { zone: &TimeZone::UTC, folder: Path::new("/conf") };
        let all = wanted(&file, &BTreeMap::from(log), &surroundings);
        let told: Vec<_> = all
            .iter()
            .map(|(name, one)| {
                let config = one.config.as_ref().map(ConnectorConfig::source);
                (&**name, config.unwrap_or_else(Clone::clone), one.origin, one.stopped, one.note.is_some())
            })
            .collect();
        let unreadable = "what was added over the API can't be read; give it anew by `ironloom connectors add`: kind: \
                          \"smoke\" is not a kind of connector; the kinds are csv, mqtt";
        assert_eq!(
            told,
            [
                ("a", "a.csv".to_owned(), Origin::File, true, true),
                ("b", "/conf/b.csv".to_owned(), Origin::Api, false, false),
                ("c", unreadable.to_owned(), Origin::Api, false, false),
                ("e", "/conf/b.csv".to_owned(), Origin::Api, true, false),
            ]
        );
    }
}
