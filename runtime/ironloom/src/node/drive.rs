//! Set-points between the outbox, connectors and the log.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::ingest::NotTaken;
use super::{Node, WantedConnectors};
use crate::connectors::{Commands, Wanted};
use crate::fold::Shared;
use crate::fold::submission::{Accepted, Refusal};
use crate::outbox::{Answer, Command, Halted, Router, Settlement};
use crate::records::readings::{ReadingsHead, Receipt};
use crate::telemetry::OutcomeLabel;
use crate::telemetry::events::What;
use ironloom_storage::failpoint;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{PointNumber, PointPath, TenantId};
use ironloom_types::readings::{Columns, NewPoint, Quality, ValueRef};

/// Ends of one record.
pub(super) const MOST_ENDS: usize = 1_000;
/// The pause before ends are written again that were not taken.
const AGAIN: Duration = Duration::from_millis(500);
/// The interval at which it is looked what has lived too long.
const LOOK: Duration = Duration::from_millis(20);

/// The outbox as connectors see it.
pub(super) struct NodeCommands(pub Arc<Shared>);

impl Commands for NodeCommands {
    fn next(&self, connector: &Arc<str>) -> Option<Command> {
        let command = self.0.outbox.next(connector, self.now());
        if command.is_some() {
            failpoint("set-point-before-send");
        }
        command
    }

    fn answered(&self, command: &Command, answer: Answer) {
        failpoint("set-point-answered");
        let now = self.now();
        self.0.outbox.change(|outbox| outbox.answered(&command.point, command.what, answer, now));
    }

    fn lost(&self, connector: &Arc<str>) {
        let now = self.now();
        self.0.outbox.change(|outbox| outbox.lost(connector, now));
    }

    fn is_halted(&self, mut handed: &mut dyn Iterator<Item = &Command>) -> bool {
        self.0.outbox.look(|outbox| {
            *outbox.halted() != Halted::default()
                && Iterator::any(&mut handed, |command| outbox.is_halted(&command.point))
        })
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.0.outbox.changes()
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }
}

impl Node {
    /// Tells the outbox which connector each point has.
    pub(super) fn route_set_points(&self, wanted: WantedConnectors) {
        let router: Router = Arc::new(move |path| {
            // Through one that is stopped, too: what it doesn't take in time expires, as without a connection.
            let drives = |one: &Wanted| one.config.as_ref().is_ok_and(|config| config.drives(path));
            let found = wanted.iter().find(|(_, one)| drives(one));
            found.map(|(name, _)| Arc::from(name.as_str()))
        });
        let now = self.shared.clock.now();
        self.shared.outbox.change(|outbox| outbox.set_router(router, now));
    }

    /// Writes ends of a tenant's intents. Where there is no room for new points, only the readings of known ones go with them, and else none.
    pub(super) async fn write_down(
        self: &Arc<Self>,
        tenant: TenantId,
        ends: &[Settlement],
    ) -> Result<Accepted, NotTaken> {
        let mut written = self.record(tenant, ends, Outcomes::All).await;
        for outcomes in [Outcomes::OfKnownPoints, Outcomes::None] {
            match written {
                Err(
                    NotTaken::NoRoom(_)
                    | NotTaken::Refused(Refusal::TooManyPoints { .. } | Refusal::TooLarge { .. }),
                ) => written = self.record(tenant, ends, outcomes).await,
                written => return written,
            }
        }
        written
    }

    /// Writes ends, and the readings that they are.
    async fn record(
        self: &Arc<Self>,
        tenant: TenantId,
        ends: &[Settlement],
        outcomes: Outcomes,
    ) -> Result<Accepted, NotTaken> {
        let (mut columns, mut new_points) = (Columns::default(), Vec::new());
        if outcomes != Outcomes::None {
            let names = self.shared.points.names();
            // One point too many makes no further one.
            for end in ends.iter().filter(|end| end.settled.driven.is_some()) {
                let entity = if end.entity.is_empty() { String::new() } else { format!("/{}", end.entity) };
                let path = format!("apps/{}/{}{entity}/outcome", end.installation, end.output);
                // One that is too long has no reading; the API shows the end.
                let Ok(path) = PointPath::new(end.installation.tenant(), &path) else { continue };
                let known = names.number(&path);
                if known.is_none() && outcomes == Outcomes::OfKnownPoints {
                    continue;
                }
                let point = known.unwrap_or_else(|| pending(&mut new_points, path));
                columns.push(point, end.at, Quality::Good, ValueRef::Text(end.outcome.name()));
            }
        }
        let settled = ends.iter().map(|end| end.settled.clone()).collect();
        let head = ReadingsHead { receipt: Some(Receipt::Outbox(settled)), idempotency: None };
        self.hand_over(tenant, head, new_points, columns).map_err(NotTaken::Refused)?.await
    }
}

/// The outcomes that become readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcomes {
    All,
    OfKnownPoints,
    None,
}

fn pending(new_points: &mut Vec<NewPoint>, path: PointPath) -> PointNumber {
    let at = new_points.iter().position(|new: &NewPoint| new.path == path).unwrap_or_else(|| {
        new_points.push(NewPoint { path, unit: None });
        new_points.len() - 1
    });
    PointNumber::pending(at)
}

/// Writes what became of intents, in its order, as long as the server runs.
pub(super) async fn write_ends(node: Weak<Node>) {
    let Some(mut changes) = node.upgrade().map(|node| node.shared.outbox.ends()) else { return };
    let mut ends: Vec<Settlement> = Vec::new();
    loop {
        {
            let Some(node) = node.upgrade() else { return };
            if ends.is_empty() {
                ends = node.shared.outbox.take_ends(MOST_ENDS);
            }
            if !ends.is_empty() {
                failpoint("set-point-before-record");
                let tenant = ends[0].installation.tenant();
                match node.write_down(tenant, &ends).await {
                    Ok(_) => {
                        failpoint("set-point-recorded");
                        tell(&node, &ends);
                        node.recorded.send_modify(|recorded| *recorded += ends.len() as u64);
                        ends.clear();
                        continue;
                    }
                    Err(NotTaken::Refused(Refusal::Stopped | Refusal::UnknownOutcome)) => return,
                    Err(not_taken) => {
                        tracing::warn!(
                            error = not_taken.words(),
                            "outcomes of set-points wait to be written"
                        );
                    }
                }
            }
        }
        if ends.is_empty() {
            if changes.changed().await.is_err() {
                return;
            }
        } else {
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Ends set-points whose time is over, and goes safe where they weren't renewed.
pub(super) async fn watch_lives(node: Weak<Node>) {
    let mut every = tokio::time::interval(LOOK);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        every.tick().await;
        let Some(node) = node.upgrade() else { return };
        let now = node.shared.clock.now();
        let is_due = node.shared.outbox.look(|outbox| outbox.next_deadline().is_some_and(|at| at <= now));
        if is_due {
            node.shared.outbox.change(|outbox| outbox.tick(now));
        }
    }
}

/// Ends of one record that are told one by one.
const TOLD: usize = 100;

/// Tells ends that are recorded.
fn tell(node: &Node, ends: &[Settlement]) {
    let metrics = &node.telemetry.metrics;
    for end in ends {
        let label = OutcomeLabel { outcome: end.outcome.name() };
        metrics.set_points.get_or_create(&label).inc();
    }
    for end in ends.iter().take(TOLD) {
        let driven = end.settled.driven.as_deref();
        metrics.events.tell(What::SetPoint {
            installation: end.installation.clone(),
            point: driven.map_or_else(String::new, |driven| driven.point.to_string()),
            outcome: end.outcome.name(),
            reason: driven.and_then(|driven| driven.last.reason.as_ref()).map(ToString::to_string),
        });
    }
    for end in ends.iter().skip(TOLD) {
        let installation = end.installation.clone();
        metrics.events.tell_sparingly(What::SetPoints { installation, count: 1 });
    }
}
