//! Looks at an installation from outside, as anybody could, and says what has changed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use ironloom_tests::Client;
use serde_json::Value;

/// Lines for alarms of one kind below one line of the table.
const SHOWN: usize = 2;

const COUNTERS: [&str; 5] = ["readings", "invocations", "failures", "dead_letters", "derived"];

/// All that was seen so far of one installation.
pub(crate) struct Watch {
    client: Client,
    id: &'static str,
    counters: BTreeMap<&'static str, u64>,
    state: String,
    last_error: Value,
    /// The alarms that stood at the last look, by id.
    standing: BTreeMap<String, Value>,
    raised: BTreeMap<String, u64>,
    cleared: u64,
}

/// The alarms that came and went since the look before.
pub(crate) struct Changes {
    pub(crate) raised: Vec<Value>,
    pub(crate) cleared: usize,
}

impl Watch {
    /// Has seen nothing yet.
    pub(crate) fn new(client: &Client, id: &'static str) -> Self {
        Self {
            client: client.clone(),
            id,
            counters: BTreeMap::new(),
            state: String::new(),
            last_error: Value::Null,
            standing: BTreeMap::new(),
            raised: BTreeMap::new(),
            cleared: 0,
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn look(&mut self) -> Result<Changes> {
        let shown = self.client.installation(self.id)?;
        for name in COUNTERS {
            let count = shown["counters"][name].as_u64();
            self.counters.insert(name, count.with_context(|| format!("no counter {name} in {shown}"))?);
        }
        self.state = shown["state"].as_str().unwrap_or_default().to_owned();
        self.last_error = shown["last_error"].clone();
        self.follow_alarms()
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or_default()
    }

    /// The number of alarms that stand.
    pub(crate) fn standing(&self) -> usize {
        self.standing.len()
    }

    fn follow_alarms(&mut self) -> Result<Changes> {
        let mut standing = BTreeMap::new();
        for alarm in self.client.all(&format!("/v1/alarms?installation={}", self.id))? {
            // One that is cleared but was never acknowledged stays listed.
            if alarm["state"] != "return-to-normal-unacknowledged" {
                standing.insert(alarm["id"].as_str().unwrap_or_default().to_owned(), alarm);
            }
        }
        let is_new = |(id, _): &(&String, &Value)| !self.standing.contains_key(*id);
        let raised: Vec<Value> = standing.iter().filter(is_new).map(|(_, alarm)| alarm.clone()).collect();
        let cleared = self.standing.keys().filter(|id| !standing.contains_key(*id)).count();
        for alarm in &raised {
            *self.raised.entry(alarm["code"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        self.cleared += cleared as u64;
        self.standing = standing;
        Ok(Changes { raised, cleared })
    }

    /// Further lines, where there is something to say: a state that isn't as it should be, and new alarms.
    pub(crate) fn notes(&self, changes: &Changes) -> String {
        let mut out = String::new();
        if self.state != "running" {
            let _ = writeln!(out, "  {} is {}: {}", self.id, self.state, self.last_error);
        }
        alarms(&mut out, &changes.raised);
        out
    }

    /// Lists all that no app may do in the demo.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for name in ["failures", "dead_letters"] {
            let count = self.count(name);
            if count > 0 {
                let (id, kind) = (self.id, name.replace('_', " "));
                problems.push(format!("{id} has {count} {kind}, the last error is {}", self.last_error));
            }
        }
        if self.state != "running" {
            problems.push(format!("{} is {}: {}", self.id, self.state, self.last_error));
        }
        for name in ["readings", "derived"] {
            if self.count(name) == 0 {
                problems.push(format!("there are no {name} of {}", self.id));
            }
        }
        problems
    }

    /// The last words about alarms.
    pub(crate) fn summary(&self) -> String {
        let raised: Vec<_> = self.raised.iter().map(|(code, count)| format!("{count} {code}")).collect();
        let raised = if raised.is_empty() { "none".to_owned() } else { raised.join(", ") };
        format!("Alarms raised: {raised}; {} cleared, {} stand.", self.cleared, self.standing.len())
    }
}

/// The first alarms of each kind, and how many more there are.
fn alarms(out: &mut String, raised: &[Value]) {
    let mut by_code = BTreeMap::<&str, Vec<&Value>>::new();
    for alarm in raised {
        by_code.entry(alarm["code"].as_str().unwrap_or_default()).or_default().push(alarm);
    }
    for alarms in by_code.values() {
        for alarm in alarms.iter().take(SHOWN) {
            let text = |field: &str| alarm[field].as_str().unwrap_or_default();
            let _ = writeln!(
                out,
                "  {:<8}  {}: {}: {}",
                text("severity"),
                text("code"),
                text("entity"),
                text("message")
            );
        }
        if alarms.len() > SHOWN {
            let _ = writeln!(out, "            and {} more of these", alarms.len() - SHOWN);
        }
    }
}
