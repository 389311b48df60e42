//! All that was seen of the chargers so far: what they were told, what they drew, and whether that was ever too much.

use anyhow::Result;
use ironloom_tests::chargers::Told;

/// The site in the period that has just ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Moment {
    /// When it began, by the local clock.
    pub(crate) at: String,
    /// Cars that are plugged in.
    pub(crate) cars: usize,
    /// Means of the period, in ampere.
    pub(crate) building: f64,
    pub(crate) chargers: f64,
    /// Since the demo began, by the cars that have come, in kWh.
    pub(crate) asked: f64,
    pub(crate) delivered: f64,
}

impl Moment {
    /// The current that the site's connection carries, in ampere.
    pub(crate) fn load(&self) -> f64 {
        self.building + self.chargers
    }
}

/// All that both threads of the chargers see, and that the table shows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    told: Told,
    /// Messages of limits.
    pub(crate) heard: u64,
    /// The capacity less the building's load, in ampere: in this period, and in the one before.
    room: f64,
    room_before: f64,
    pub(crate) latest: Moment,
    pub(crate) periods: u64,
    /// The highest load of a period, and the most that the chargers were told together, in ampere.
    pub(crate) highest: f64,
    pub(crate) most_told: f64,
    /// The kill switch is on, and time stands still.
    pub(crate) is_halted: bool,
    /// The first thing that shouldn't have happened, such as a limit that no charger should have been told.
    pub(crate) broken: Option<String>,
}

impl Seen {
    /// Begins a period that leaves so much to the chargers.
    pub(crate) fn begin(&mut self, room: f64) {
        self.room_before = self.room;
        self.room = room;
    }

    /// Takes a limit that a charger is told.
    pub(crate) fn hear(&mut self, topic: &str, payload: &[u8]) {
        // The app may have decided by the load of the period before, at its end.
        let room = self.room.max(self.room_before);
        if let Err(error) = self.told.hear(topic, payload, room) {
            self.breaks(format!("{error:#}"));
        }
        self.heard += 1;
        self.most_told = self.most_told.max(self.told.sum());
    }

    /// Takes note of a failure; the first one counts.
    pub(crate) fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    /// The limit of a charger, in ampere.
    pub(crate) fn limit(&self, station: &str) -> f64 {
        self.told.limit(station)
    }

    /// Fails where the chargers, which have all limits of this period by now, may draw more than is left to them.
    pub(crate) fn check(&self) -> Result<()> {
        self.told.check(self.room)
    }

    /// Ends the period.
    pub(crate) fn end(&mut self, moment: Moment) {
        self.highest = self.highest.max(moment.load());
        self.latest = moment;
        self.periods += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(seen: &mut Seen, station: &str, limit: f64) {
        seen.hear(&format!("stations/{station}/limit"), format!("{{\"value\":{limit}}}").as_bytes());
    }

    #[test]
    fn more_than_the_building_leaves_is_found() {
        let mut seen = Seen::default();
        seen.begin(40.0);
        hear(&mut seen, "a", 32.0);
        hear(&mut seen, "b", 8.0);
        assert!(seen.check().is_ok() && seen.broken.is_none());
        // The building draws more, and one is still raised by what was there before.
        seen.begin(30.0);
        hear(&mut seen, "b", 7.0);
        hear(&mut seen, "c", 0.0);
        assert!(seen.broken.is_none());
        assert_eq!(
            seen.check().unwrap_err().to_string(),
            "the chargers were told 39.0 A in all, and the building leaves 30.0 A"
        );
        hear(&mut seen, "a", 20.0);
        assert!(seen.check().is_ok());
        seen.begin(30.0);
        hear(&mut seen, "a", 30.0);
        assert_eq!(
            seen.broken.as_deref(),
            Some("stations/a/limit was raised: 37.0 A in all, where the building leaves 30.0 A")
        );
        assert_eq!((seen.heard, seen.most_told), (6, 40.0));
    }

    #[test]
    fn a_limit_that_no_charger_takes_is_found() {
        let mut seen = Seen::default();
        seen.begin(40.0);
        hear(&mut seen, "a", 5.0);
        assert_eq!(seen.broken.as_deref(), Some("stations/a/limit: a was told 5 A"));
    }
}
