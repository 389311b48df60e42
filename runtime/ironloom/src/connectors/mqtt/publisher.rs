//! Publishes derived readings and alarms to a broker, over a connection of its own, each kind in its order: QoS 1, and at
//! least once. The place up to which the broker has taken everything is written down once a second, or more
//! often where there is much.

mod ahead;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use self::ahead::{Ahead, Page};
use super::config::{MqttConfig, Version};
use super::link::{Ack, Heard, Link, NotConnected, Use};
use super::reasons::Ended;
use super::{Attempts, Lost};
use crate::connectors::run::told_to_stop;
use crate::connectors::{Looked, Outgoing, Part, SinkError, State, Status, Submitted};
use ironloom_types::readings::Published;

/// The interval at which the place is written down, if it has changed, and the messages after which it is earlier.
const NOTE: Duration = Duration::from_secs(1);
const NOTE_MESSAGES: u32 = 1_000;

/// Everything that outlasts a connection.
struct Publisher {
    config: Arc<MqttConfig>,
    outgoing: Arc<dyn Outgoing>,
    status: Arc<Status>,
    /// The broker has taken all up to here.
    place: Published,
    /// The place as it was handed over to be written, if it was.
    noted: Option<Published>,
    note: Option<Submitted>,
    next_note: Instant,
    /// Messages that the broker has answered since.
    answered: u32,
}

/// The end of a connection.
enum End {
    /// The connector is to stop.
    Stopped,
    Lost(Lost),
}

/// Runs until shutdown is requested.
pub(super) async fn run(
    config: Arc<MqttConfig>,
    outgoing: Arc<dyn Outgoing>,
    status: Arc<Status>,
    mut shutdown: watch::Receiver<bool>,
) {
    let known = match outgoing.published(&status.name) {
        Ok(known) => known,
        Err(error) => return status.failed(Part::Publishing, State::Stopped, &error),
    };
    // The first time it begins with what comes from now on, and that is written down before anything else.
    let place = known.unwrap_or_else(|| outgoing.last());
    let mut publisher = Publisher {
        config,
        outgoing,
        status,
        place,
        noted: known,
        note: None,
        next_note: Instant::now(),
        answered: 0,
    };
    let mut attempts = Attempts::new(&publisher.config);
    loop {
        publisher.status.set(Part::Publishing, State::Connecting);
        let began = Instant::now();
        let lost = match publisher.connection(attempts.version, &mut shutdown).await {
            End::Stopped => break,
            End::Lost(lost) => lost,
        };
        publisher.status.failed(Part::Publishing, State::Waiting, &lost.ended.reason);
        let until = Instant::now() + attempts.pause(&lost, began.elapsed());
        if !publisher.wait(until, &mut shutdown).await {
            break;
        }
    }
    publisher.last_note().await;
}

impl Publisher {
    /// Waits without a connection, and writes the place down meanwhile; `false` where the connector is to stop.
    async fn wait(&mut self, until: Instant, shutdown: &mut watch::Receiver<bool>) -> bool {
        loop {
            self.write_place();
            self.show();
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                () = told_to_stop(shutdown) => return false,
                written = written(&mut self.note) => self.noted(written),
                () = tokio::time::sleep(NOTE) => {}
            }
        }
    }

    async fn connection(&mut self, version: Version, shutdown: &mut watch::Receiver<bool>) -> End {
        let lost = |ended, was_connected| End::Lost(Lost { ended, was_connected });
        let mut link = match Link::connect(&self.config, version, Use::Publish, shutdown).await {
            Ok((link, ..)) => link,
            Err(NotConnected::Stopped) => return End::Stopped,
            Err(NotConnected::Ended(ended)) => return lost(ended, false),
        };
        self.status.set(Part::Publishing, State::Running);
        let mut ahead = Ahead::new(&self.config, &self.outgoing, self.place);
        let ended = loop {
            self.write_place();
            self.show();
            if let Err(ended) = self.hand_over(&link, &mut ahead) {
                break ended;
            }
            if ahead.is_late() {
                break Ended::from("the broker didn't answer to a message in time".to_owned());
            }
            ahead.read_on();
            let next_look = ahead.next_look();
            let heard = tokio::select! {
                () = told_to_stop(shutdown) => {
                    link.leave().await;
                    return End::Stopped;
                }
                page = ahead.read() => {
                    self.take(page, &mut ahead);
                    continue;
                }
                written = written(&mut self.note) => {
                    self.noted(written);
                    continue;
                }
                heard = link.next() => heard,
                // To look whether there is something new.
                () = sleep_until(next_look) => continue,
                () = tokio::time::sleep(NOTE) => continue,
            };
            match heard {
                Ok(heard) => self.hear(heard, &mut ahead),
                Err(ended) => break ended,
            }
        };
        lost(ended, true)
    }

    /// Takes what was read.
    fn take(&mut self, page: Result<Page, String>, ahead: &mut Ahead) {
        match page {
            Ok(page) => {
                let Looked { missed, .. } = page.looked;
                if missed > 0 {
                    tracing::warn!(
                        connector = self.status.name,
                        missed,
                        "readings or alarms were gone before they could be published"
                    );
                    self.status.publishing(|status| status.missed += missed);
                }
                ahead.take(page);
                self.place = ahead.place();
            }
            Err(error) => self.status.noticed(Part::Publishing, &error),
        }
    }

    /// Hands over all that there is for the broker.
    fn hand_over(&self, link: &Link, ahead: &mut Ahead) -> Result<(), Ended> {
        while let Some(message) = ahead.next_message() {
            link.publish(message.topic, message.payload, message.retain, None, Vec::new())?;
            self.status.publishing(|status| status.sent += 1);
        }
        Ok(())
    }

    fn hear(&mut self, heard: Heard, ahead: &mut Ahead) {
        match heard {
            Heard::SentPublish(id) => ahead.sent(id),
            Heard::PubAck(id, ack) if ahead.answered(id) => {
                match ack {
                    // Whoever wants it may come later.
                    Ack::Taken | Ack::NobodyThere(_) => {
                        self.status.publishing(|status| status.acknowledged += 1);
                    }
                    Ack::Refused(reason) => {
                        self.status.publishing(|status| status.refused += 1);
                        self.status.noticed(Part::Publishing, &reason);
                    }
                }
                self.place = ahead.place();
                self.answered = self.answered.saturating_add(1);
            }
            _ => {}
        }
    }

    /// Has the place written down, if it is time.
    fn write_place(&mut self) {
        let is_time = self.answered >= NOTE_MESSAGES || Instant::now() >= self.next_note;
        if self.note.is_some() || self.noted == Some(self.place) || !is_time {
            return;
        }
        (self.next_note, self.answered) = (Instant::now() + NOTE, 0);
        match self.outgoing.publish_through(&self.status.name, self.place) {
            Ok(note) => {
                self.noted = Some(self.place);
                self.note = Some(note);
            }
            // The next time.
            Err(error) => self.noted(Err(error)),
        }
    }

    fn noted(&mut self, written: Result<(), SinkError>) {
        self.note = None;
        match written {
            Ok(()) | Err(SinkError::Stopping) => {}
            Err(error) => {
                // So that it is written again.
                self.noted = None;
                self.status.noticed(Part::Publishing, &error.to_string());
            }
        }
    }

    /// Writes the place down before the end.
    async fn last_note(&mut self) {
        if self.note.is_some() {
            let written = written(&mut self.note).await;
            self.noted(written);
        }
        self.next_note = Instant::now();
        self.write_place();
        if self.note.is_some() {
            let _ = written(&mut self.note).await;
        }
    }

    fn show(&self) {
        let (last, place) = (self.outgoing.last(), self.place);
        self.status.publishing(|status| {
            status.through = place.readings.0;
            status.behind = last.readings.0.saturating_sub(place.readings.0);
            status.alarms_behind = last.alarms.saturating_sub(place.alarms);
        });
    }
}

/// Ready once the note is written, if there is one.
async fn written(note: &mut Option<Submitted>) -> Result<(), SinkError> {
    match note {
        Some(note) => note.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
