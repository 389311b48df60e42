//! Simulated chargers of a parking garage, behind a broker: they publish what they measure, and obey the limits that they are
//! told. Their cars are those of a recorded week, and time passes faster than here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use charging_site::PERIOD;
use charging_site::simulation::{Simulation, available};
use charging_site::week::{Session, Week};
use ironloom_tests::apps::number;
use ironloom_tests::mosquitto::Mosquitto;
use ironloom_tests::peer::Peer;
use ironloom_tests::wait::PATIENCE;
use ironloom_tests::{Client, chargers};
use parking_lot::Mutex;
use rumqttc_v4::QoS;
use serde_json::json;

use crate::seen::{Moment, Seen};
use crate::site::{CAPACITY, ID};

/// A period takes so long here, and longer where the server isn't done with it.
const HERE: Duration = Duration::from_millis(250);
/// A demo that ends while the server has been at a period for so long hasn't gone well.
const STUCK: Duration = Duration::from_secs(15);
/// The first period: Monday, 6:30, shortly before the first car.
const FIRST: usize = 78;
/// The periods of a week.
const WEEK: usize = 7 * 24 * 12;
/// Pasadena's time in May.
const BEHIND_UTC: Duration = Duration::from_secs(7 * 3_600);

/// All chargers of the garage, by the numbers in their names. On some of them no car was charged in the recorded week.
pub(crate) fn stations() -> impl Iterator<Item = String> {
    [148, 149, 212, 213].into_iter().chain(303..=327).chain(489..=513).map(|number| format!("CA-{number}"))
}

/// The chargers, on threads of their own.
pub(crate) struct Chargers {
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    clock: Option<JoinHandle<Result<()>>>,
}

impl Chargers {
    /// Connects them to the broker and lets their time pass. `client` is for the site's server.
    pub(crate) fn start(broker: &Mosquitto, client: &Client) -> Result<Self> {
        let (seen, is_over) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let mut ear = Peer::open(broker, "chargers-ear")?;
        ear.subscribe("stations/+/limit", QoS::AtLeastOnce)?;
        // Nothing may be sent for as long as the kill switch is on.
        ear.set_patience(None)?;
        let (heard, ends) = (Arc::clone(&seen), Arc::clone(&is_over));
        std::thread::spawn(move || {
            let error = loop {
                match ear.message() {
                    Ok(message) => {
                        heard.lock().hear(&String::from_utf8_lossy(&message.topic), &message.payload);
                    }
                    Err(error) => break error,
                }
            };
            // In the end it is the broker that ends.
            if !ends.load(Ordering::Relaxed) {
                heard.lock().breaks(format!("the chargers hear nothing any more: {error:#}"));
            }
        });
        let clock = Clock {
            mouth: Peer::open(broker, "chargers-mouth")?,
            client: client.clone(),
            seen: Arc::clone(&seen),
            is_over: Arc::clone(&is_over),
            published: 0,
        };
        let clock = std::thread::spawn(move || clock.run());
        Ok(Self { seen, is_over, clock: Some(clock) })
    }

    /// A copy of all that was seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// Fails where they have, or where they were told what they shouldn't have been.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(broken) = &self.seen.lock().broken {
            bail!("{broken}");
        }
        if self.clock.as_ref().is_some_and(JoinHandle::is_finished) { self.stop() } else { Ok(()) }
    }

    /// Ends their time.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        let Some(clock) = self.clock.take() else { return Ok(()) };
        clock.join().map_err(|_| anyhow!("the chargers' thread panicked"))?.context("the chargers")
    }
}

/// The end of waiting for the server to be done with a period.
enum Settled {
    Done,
    /// The kill switch was on meanwhile.
    Halted,
    /// The demo ends.
    Over,
}

/// The time of the chargers, and all that they publish.
struct Clock {
    mouth: Peer,
    client: Client,
    seen: Arc<Mutex<Seen>>,
    is_over: Arc<AtomicBool>,
    /// Messages so far.
    published: u64,
}

impl Clock {
    /// Runs through week after week until the demo is over.
    fn run(mut self) -> Result<()> {
        let recorded = Week::caltech()?;
        let (mut first, mut asked, mut delivered) = (FIRST, 0.0, 0.0);
        for lap in 0.. {
            let week = later(&recorded, lap);
            let mut simulation = Simulation::new(&week);
            for period in first..WEEK {
                let begun = Instant::now();
                let room = available(&week, period, CAPACITY, true);
                self.seen.lock().begin(room);
                self.publish(&week, &simulation, period)?;
                match self.settle().with_context(|| format!("at {}", week.begin(period)))? {
                    Settled::Over => return Ok(()),
                    // Whatever the building draws, nobody could lower anything. The next period counts again.
                    Settled::Halted => continue,
                    Settled::Done => {}
                }
                self.charge(&mut simulation, period, room)?;
                let mut moment = moment(&week, &simulation, period);
                moment.asked += asked;
                moment.delivered += delivered;
                self.seen.lock().end(moment);
                std::thread::sleep(HERE.saturating_sub(begun.elapsed()));
            }
            first = 0;
            let end = moment(&week, &simulation, WEEK);
            asked += end.asked;
            delivered += end.delivered;
        }
        Ok(())
    }

    /// Publishes what chargers and building measure at the beginning of a period.
    fn publish(&mut self, week: &Week, simulation: &Simulation<'_>, period: usize) -> Result<()> {
        let mut readings = chargers::readings(week, simulation, period, week.load(period));
        // The others measure, too: nothing flows.
        for station in stations() {
            let [current, connected] = ["current", "connected"].map(|name| format!("{station}/{name}"));
            let is_said = |name: &String| readings.iter().any(|(said, _)| said == name);
            let (is_measured, is_known) = (is_said(&current), is_said(&connected) || self.published > 0);
            if !is_measured {
                readings.push((current, json!(0.0)));
            }
            if !is_known {
                readings.push((connected, json!(false)));
            }
        }
        let at = week.begin(period).to_string();
        for (name, value) in &readings {
            self.mouth.queue(&format!("site/{name}"), json!({"value": value, "at": at}).to_string())?;
        }
        self.mouth.flush(0)?;
        self.published += readings.len() as u64;
        Ok(())
    }

    /// Waits until the server is done with all that was published, and the chargers have heard what came of it.
    fn settle(&self) -> Result<Settled> {
        let (mut since, mut was_halted) = (Instant::now(), false);
        loop {
            let (is_over, waited) = (self.is_over.load(Ordering::Relaxed), since.elapsed());
            ensure!(
                waited < if is_over { STUCK } else { PATIENCE },
                "the app isn't done after {} s",
                waited.as_secs()
            );
            if is_over {
                return Ok(Settled::Over);
            }
            let is_quiet = self.is_quiet()?;
            // Asked afterwards: it may be quiet because of it.
            let halt = self.client.get("/v1/halt")?.json()?;
            let is_halted = halt["site"] == true || halt["installations"] != json!([]);
            self.seen.lock().is_halted = is_halted;
            if is_halted {
                (since, was_halted) = (Instant::now(), true);
            } else if was_halted {
                return Ok(Settled::Halted);
            } else if is_quiet {
                return Ok(Settled::Done);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// True where nothing is left to do for the app and its set-points.
    fn is_quiet(&self) -> Result<bool> {
        let connector = self.client.get("/v1/connectors/site")?.json()?;
        if number(&connector, "broker.messages_acknowledged") < self.published {
            return Ok(false);
        }
        let heard = self.seen.lock().heard;
        chargers::is_quiet(&self.client, ID, "site", heard)
    }

    /// Lets the cars charge by the limits that their chargers were told.
    fn charge(&self, simulation: &mut Simulation<'_>, period: usize, room: f64) -> Result<()> {
        let cars = simulation.present(period);
        let limits: Vec<f64> = {
            let seen = self.seen.lock();
            seen.check()?;
            cars.iter().map(|car| seen.limit(car.station)).collect()
        };
        simulation.charge(&cars, &limits, room)
    }
}

/// The recorded week, so many weeks later. Its last car would stay until Monday morning, when another week has begun; it leaves
/// at midnight.
fn later(recorded: &Week, weeks: u32) -> Week {
    let shift = Duration::from_secs(PERIOD * WEEK as u64) * weeks;
    let start = recorded.start + shift;
    let sessions = recorded.sessions.iter().map(|old| {
        let session =
            Session::new(start, old.arrival + shift, old.departure + shift, &old.station, old.energy);
        Session { end: session.end.min(WEEK - 1), ..session }
    });
    Week::of(start, sessions.collect(), std::array::from_fn(|hour| recorded.load(hour * 12)))
}

/// The site at the end of a period of this week, with the energy of this week alone.
fn moment(week: &Week, simulation: &Simulation<'_>, period: usize) -> Moment {
    let at = (week.begin(period) - BEHIND_UTC).to_string();
    let mut moment = Moment {
        at: at.get(..16).unwrap_or(&at).replace('T', " "),
        building: week.load(period),
        ..Moment::default()
    };
    let sessions = week.sessions.iter().enumerate();
    for (place, session) in sessions.filter(|(_, session)| session.first < session.end.min(period + 1)) {
        moment.asked += session.energy;
        moment.delivered += simulation.delivered(place);
        if period < session.end {
            moment.cars += 1;
            moment.chargers += simulation.drawn(place);
        }
    }
    moment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_cars_have_a_charger_and_are_gone_when_the_week_begins_again() -> Result<()> {
        let all: Vec<String> = stations().collect();
        assert_eq!(all.len(), 54);
        let recorded = Week::caltech()?;
        assert!(recorded.stations().iter().all(|station| all.iter().any(|own| own == station)));
        let next = later(&recorded, 1);
        assert_eq!(next.begin(0), recorded.begin(WEEK));
        assert!(later(&recorded, 0).sessions.iter().all(|session| session.end < WEEK));
        assert!(Simulation::new(&next).present(FIRST).is_empty());
        assert_eq!(next.load(FIRST), recorded.load(FIRST));
        Ok(())
    }

    #[test]
    fn a_moment_counts_the_cars_that_have_come() -> Result<()> {
        let week = later(&Week::caltech()?, 0);
        let mut simulation = Simulation::new(&week);
        // The first car came at 6:38.
        let cars = simulation.present(80);
        assert_eq!(cars.len(), 1);
        simulation.charge(&cars, &[30.0], 100.0)?;
        let moment = moment(&week, &simulation, 80);
        assert_eq!((moment.at.as_str(), moment.cars), ("2019-05-06 06:40", 1));
        assert_eq!((moment.building, moment.asked), (16.0, 18.729));
        // 30 A at 208 V for five minutes.
        assert!(
            (moment.chargers - 30.0).abs() < 1e-9 && (moment.delivered - 0.52).abs() < 1e-9,
            "{moment:?}"
        );
        Ok(())
    }
}
