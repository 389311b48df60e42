//! `ironloom connectors`.

mod change;
mod test;

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use self::change::{Add, Remove, Set, Start, Stop};
use self::test::Test;
use super::client::segment;
use super::failure::Outcome;
use super::listing::{List, Listing};
use super::{Global, output};
use crate::api::facade::{BrokerStatus, ConnectorDeadLetter, ConnectorStatus, Origin};
use ironloom_types::text::clean;

/// Lists connectors and their status, adds, changes, stops, starts or removes one, shows its dead letters, or tries one
/// without a server.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Connectors {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List them, as without a subcommand
    List,
    /// Show one: its connection, what its broker says of itself, and its counters
    Show {
        /// The connector's name
        name: String,
    },
    /// Add one, or say anew all that one is that was added; it acts at once
    Add(Add),
    /// Change keys of one that was added; it acts at once
    Set(Set),
    /// Stop one, also one of the configuration file. It stays so, also over a restart, until it is started
    Stop(Stop),
    /// Start one that was stopped
    Start(Start),
    /// Remove one that was added. Its points and readings stay
    Remove(Remove),
    /// List messages that gave no reading, newest first, with the reasons: the last 1,000 since the start of the server
    DeadLetters {
        /// The connector's name
        name: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Connect to the broker of a connector as its configuration says, without a server, and show what comes. Nothing is
    /// written, and the session of a server that runs isn't touched
    Test(Test),
}

impl Connectors {
    pub(super) fn run(self, global: &Global) -> Outcome {
        match self.what {
            None | Some(What::List) => list(global),
            Some(What::Show { name }) => {
                let path = format!("/v1/connectors/{}", segment(&name));
                let answer = global.client()?.get(&path, &[])?;
                output::one(global, &answer, |status: ConnectorStatus| text(&status))
            }
            Some(What::DeadLetters { name, listing }) => {
                let path = format!("/v1/connectors/{}/dead-letters", segment(&name));
                let list = List {
                    path: &path,
                    query: Vec::new(),
                    header: ["number", "time", "topic", "payload", "bytes", "reason"],
                    place: |letter: &ConnectorDeadLetter| (letter.number, 0),
                    time: |letter| letter.time,
                    row: |letter| {
                        [
                            letter.number.to_string(),
                            letter.time.to_string(),
                            output::shorten(&letter.topic),
                            output::shorten(&letter.payload.to_string()),
                            letter.bytes.to_string(),
                            output::shorten_last(&letter.reason),
                        ]
                    },
                };
                listing.show(global, &list)
            }
            Some(What::Add(add)) => add.run(global),
            Some(What::Set(set)) => set.run(global),
            Some(What::Stop(stop)) => stop.run(global),
            Some(What::Start(start)) => start.run(global),
            Some(What::Remove(remove)) => remove.run(global),
            Some(What::Test(test)) => test.run(global),
        }
    }
}

fn list(global: &Global) -> Outcome {
    let header = ["name", "kind", "state", "readings", "lowered", "skipped", "last error"];
    output::list(global, "/v1/connectors", &[], &header, |item: ConnectorStatus| {
        let (part, state, error) = item.worst();
        let (state, error) = (part.with(state), output::shorten_last(error.unwrap_or_default()));
        let counts = [item.readings, item.lowered, item.skipped].map(|count| count.to_string());
        let [readings, lowered, skipped] = counts;
        [item.name, item.kind, state, readings, lowered, skipped, error]
    })
}

/// A connection to a broker, a fact on each line.
fn of_broker(broker: &BrokerStatus, line: &mut dyn FnMut(&str, String)) {
    let version = broker.version.as_ref().map_or_else(String::new, |version| format!("MQTT {version}, "));
    let since = broker.connected_since;
    let since = since.map_or("not connected".to_owned(), |since| format!("connected since {since}"));
    line("broker", format!("{version}{since}, {}", output::counted(broker.reconnects, "reconnect")));
    if let Some(session) = broker.session_present {
        line("session", if session { "kept by the broker" } else { "new with this connection" }.to_owned());
    }
    for fact in broker.reported.facts() {
        line("reported", fact);
    }
    for refused in &broker.refused {
        line("refused", format!("{}: {}", refused.filter, refused.reason));
    }
    let (received, acknowledged) = (broker.messages_received, broker.messages_acknowledged);
    line("messages", format!("{received} received, {acknowledged} acknowledged"));
    line("known", format!("{} came again and were known", broker.duplicates));
    let age = broker.oldest_unacknowledged_seconds;
    let age = age.map_or_else(String::new, |age| format!(", the oldest for {age:.1} s"));
    line("waiting", format!("{} unacknowledged{age}", broker.unacknowledged));
    line("retained", format!("{} passed over", broker.retained_passed_over));
}

/// A connector, a fact on each line.
fn text(status: &ConnectorStatus) -> String {
    let mut out = String::new();
    // Writing into a String doesn't fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<14}{}", clean(&value));
    };
    line("name", format!("{}, {}", status.name, status.kind));
    let waits: Vec<&str> = status.waits_for.iter().map(|id| id.as_str()).collect();
    let told = match (status.stopped, waits.is_empty()) {
        (true, _) => "stopped, until somebody starts it".to_owned(),
        (false, true) => status.state.name().to_owned(),
        (false, false) => format!("{}, until there is {}", status.state.name(), waits.join(", ")),
    };
    line("state", told);
    let keys = match status.origin {
        Origin::File => "in the configuration file",
        Origin::Api => "added over the API",
    };
    line("keys", keys.to_owned());
    if let Some(note) = &status.note {
        line("note", note.clone());
    }
    if let Some(error) = &status.last_error {
        line("last error", error.clone());
    }
    line("readings", format!("{}, {} of lowered quality", status.readings, status.lowered));
    line("skipped", status.skipped.to_string());
    let passed = status.passed_over.iter().map(|(reason, count)| format!("{count} {reason}"));
    let passed = passed.collect::<Vec<_>>().join(", ");
    line("passed over", if passed.is_empty() { "nothing".to_owned() } else { passed });
    if let Some(broker) = &status.broker {
        of_broker(broker, &mut line);
        line("dead letters", status.dead_letters.to_string());
    }
    if let Some(sends) = &status.set_points {
        let counts = format!("{} sent, {} accepted, {} rejected", sends.sent, sends.accepted, sends.rejected);
        line("set-points", format!("{}, {counts}", sends.state.name()));
        if let Some(error) = &sends.last_error {
            line("", error.clone());
        }
    }
    if let Some(publish) = &status.publish {
        let counts = format!(
            "{} sent, {} acknowledged, {} refused, {} missed",
            publish.sent, publish.acknowledged, publish.refused, publish.missed
        );
        line("publishes", format!("{}, {counts}", publish.state.name()));
        let behind = output::counted(publish.behind, "reading");
        let alarms = output::counted(publish.alarms_behind, "alarm change");
        line("", format!("through {}, {behind} and {alarms} behind", publish.through));
        if let Some(error) = &publish.last_error {
            line("", error.clone());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connector_is_shown_a_fact_on_each_line() {
        let status = serde_json::from_value(serde_json::json!({
            "name": "plant", "kind": "mqtt", "state": "running", "origin": "api", "stopped": false,
            "passed_over": {"duplicate": 3, "unreadable": 2}, "readings": 7, "lowered": 1, "skipped": 2,
            "dead_letters": 2, "last_error": "topic \"a\": \u{1b}",
            "broker": {
                "version": "5", "connected_since": "2026-01-01T00:00:00Z", "session_present": true,
                "reported": {"receive_maximum": 20, "wildcards": false},
                "refused": [{"filter": "a/+", "reason": "no"}], "reconnects": 1,
                "messages_received": 9, "messages_acknowledged": 8, "duplicates": 3, "unacknowledged": 1,
                "oldest_unacknowledged_seconds": 0.25, "retained_passed_over": 4,
            },
        }));
        insta::assert_snapshot!(text(&status.unwrap()), @r#"
        name          plant, mqtt
        state         running
        keys          added over the API
        last error    topic "a": \u{1b}
        readings      7, 1 of lowered quality
        skipped       2
        passed over   3 duplicate, 2 unreadable
        broker        MQTT 5, connected since 2026-01-01T00:00:00.000000000Z, 1 reconnect
        session       kept by the broker
        reported      receive maximum 20
        reported      wildcards no
        refused       a/+: no
        messages      9 received, 8 acknowledged
        known         3 came again and were known
        waiting       1 unacknowledged, the oldest for 0.2 s
        retained      4 passed over
        dead letters  2
        "#);
    }
}
