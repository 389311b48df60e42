//! The charging site: a server of its own with the app `charging`, whose chargers are behind a broker.

use std::time::Duration;

use anyhow::Result;
use ironloom_tests::mosquitto::{LOSSLESS, Mosquitto};
use ironloom_tests::wait_until;

use crate::app;
use crate::chargers::{Chargers, stations};
use crate::chart::{Trace, bar, row};
use crate::machine::Node;
use crate::screen::say;
use crate::watch::Watch;

/// The installation of the app.
pub(crate) const ID: &str = "charging";
/// The capacity of the site's connection, in ampere: not enough for all who come on a Monday.
pub(crate) const CAPACITY: f64 = 120.0;

const CHARGERS: &str = "\
The chargers are simulated: 54 in a parking garage in Pasadena, with the cars of a recorded week, 5 minutes of which take
about a quarter of a second, from Monday morning on. They publish what they measure and take their limits over MQTT.
";

/// Time comes from the chargers, since theirs is another one.
const CONFIG: &str = r#"# Chargers that say what they measure, and take limits.
[site]
clock = "feed"

[connectors.site]
kind = "mqtt"
broker = "BROKER"
client_id = "ironloom-demo"

[connectors.site.topics."site/building/load"]
point = "site/building/load"
payload = "reading"
unit = "A"

[connectors.site.topics."site/{station}/current"]
point = "site/{station}/current"
payload = "reading"
unit = "A"

[connectors.site.topics."site/{station}/connected"]
point = "site/{station}/connected"
payload = "reading"
type = "boolean"

[connectors.site.topics."site/{station}/energy-asked"]
point = "site/{station}/energy-asked"
payload = "reading"
unit = "kW.h"

[connectors.site.topics."site/{station}/departure"]
point = "site/{station}/departure"
payload = "reading"
type = "text"

[connectors.site.set_points."site/{station}/limit"]
topic = "stations/{station}/limit"
"#;

/// A period has five minutes: limits live through three of them.
const INSTALL: &str = r#"[bindings]
connected = "site/{station}/connected"
energy-asked = "site/{station}/energy-asked"
departure = "site/{station}/departure"
current = "site/{station}/current"
building-load = "site/building/load"
outcome = "apps/charging/limit/{station}/outcome"
limit = "site/{station}/limit"

[settings]
capacity = CAPACITY
voltage = 208.0
safe-limit = 0.0
time-to-live = 900
stale-after = 900

[grants.outputs.limit]
allow = "0, 6..32"
toward = "low"
ttl = "15 min"
safe = 0
"#;

/// The broker, or none: then this says why, on one line.
pub(crate) fn broker() -> Result<Option<Mosquitto>> {
    match Mosquitto::start_apart(LOSSLESS)? {
        Ok(broker) => {
            say(&format!("{CHARGERS}Their broker is {}.\n\n", broker.origin()))?;
            Ok(Some(broker))
        }
        Err(error) => {
            let why: Vec<String> = format!("{error:#}").split_whitespace().map(str::to_owned).collect();
            let why = why.join(" ");
            say(&format!("No chargers are shown, only the herd: mosquitto can't be had here: {why}\n\n"))?;
            Ok(None)
        }
    }
}

/// The server with the app, the chargers, and what was seen so far.
pub(crate) struct Site {
    // In this order they go: the chargers, the server, and the broker last.
    chargers: Chargers,
    node: Node,
    _broker: Mosquitto,
    watch: Watch,
    loads: Trace,
}

impl Site {
    /// Starts server and chargers, installs the package, and waits until the first cars may come.
    pub(crate) fn start(broker: Mosquitto, package: &str) -> Result<Self> {
        let config = CONFIG.replace("BROKER", &broker.url());
        let install = INSTALL.replace("CAPACITY", &format!("{CAPACITY:.1}"));
        let mut node = Node::start(&config, &[("charging.toml", &install)])?;
        say(&format!("$ ironloom serve --config ironloom.toml --data …   # {}\n", node.folder().display()))?;
        let file = format!("--with={}", node.folder().join("charging.toml").display());
        app::install(&node, package, &[&format!("--id={ID}"), &file])?;
        let client = node.client().clone();
        wait_until("the server to reach the broker", || {
            node.check()?;
            let connector = client.get("/v1/connectors/site")?.json()?;
            Ok(connector["state"] == "running" && connector["set_points"]["state"] == "running")
        })?;
        let mut chargers = Chargers::start(&broker, &client)?;
        wait_until("the chargers' first period", || {
            chargers.check()?;
            Ok(chargers.seen().periods > 0)
        })?;
        let watch = Watch::new(&client, ID);
        Ok(Self { chargers, node, _broker: broker, watch, loads: Trace::default() })
    }

    /// The URL of the API.
    pub(crate) fn url(&self) -> &str {
        self.node.url()
    }

    /// Fails where the server has ended, or the chargers have.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.node.check()?;
        self.chargers.check()
    }

    /// The names of the columns.
    pub(crate) fn header() -> String {
        line([
            "time in Pasadena",
            "cars",
            "cars A",
            "building A",
            "load A",
            "capacity A",
            "asked kWh",
            "delivered",
            "set-points",
            "alarms",
        ])
    }

    /// A line of the table, and what else is worth a line.
    pub(crate) fn look(&mut self) -> Result<String> {
        let changes = self.watch.look()?;
        let seen = self.chargers.seen();
        let now = &seen.latest;
        self.loads.push(now.load());
        let tenths = |number: f64| format!("{number:.1}");
        let mut out = line([
            &now.at,
            &now.cars.to_string(),
            &tenths(now.chargers),
            &tenths(now.building),
            &tenths(now.load()),
            &tenths(CAPACITY),
            &tenths(now.asked),
            &tenths(now.delivered),
            &seen.heard.to_string(),
            &self.watch.standing().to_string(),
        ]);
        out += &self.watch.notes(&changes);
        if seen.is_halted {
            out += "  the kill switch is on: the chargers are told nothing, and their time stands still until `ironloom release`\n";
        }
        Ok(out)
    }

    /// The load, and the energy of the cars that have come, as lines of a chart.
    pub(crate) fn chart(&self) -> String {
        let now = self.chargers.seen().latest;
        let load = format!("{:.0} A", now.load());
        let energy = format!("{:.0} of {:.0}", now.delivered, now.asked);
        row(&format!("site, of {CAPACITY:.0} A"), &self.loads.draw(CAPACITY), &load)
            + &row("site, kWh delivered", &bar(now.delivered, now.asked), &energy)
    }

    /// Stops the chargers' time, and then the server.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.chargers.stop()?;
        self.node.stop()
    }

    /// Lists what went wrong and must not.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = self.watch.problems();
        problems.extend(self.chargers.seen().broken);
        problems
    }

    /// The last words.
    pub(crate) fn summary(&self, took: Duration) -> String {
        let seen = self.chargers.seen();
        let now = &seen.latest;
        let within = if seen.broken.is_none() { ", never more than the building left" } else { "" };
        format!(
            "\nThe {} chargers, in {:.0} s: {} periods of 5 min, {:.1} of the {:.1} kWh delivered that cars have asked for so far, \
             {} set-points. The highest load was {:.1} of {CAPACITY:.0} A; together the chargers were told {:.1} A at most{within}.\n{}\n",
            stations().count(),
            took.as_secs_f64(),
            seen.periods,
            now.delivered,
            now.asked,
            seen.heard,
            seen.highest,
            seen.most_told,
            self.watch.summary(),
        )
    }
}

fn line(cells: [&str; 10]) -> String {
    let [time, cars, chargers, building, load, capacity, asked, delivered, set_points, alarms] = cells;
    format!(
        "site  {time:<16} {cars:>5} {chargers:>7} {building:>10} {load:>7} {capacity:>10} {asked:>9} {delivered:>9} {set_points:>10} {alarms:>6}\n"
    )
}
