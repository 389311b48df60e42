//! The host's own hand: it rolls upgrades back whose version is quarantined, commits those whose time is over, and says
//! what it has done and what it could not do.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Wanted;
use crate::lanes::Lane;
use crate::node::Node;
use crate::node::audit::by_the_host;
use crate::node::copies::AT_A_TIME;
use crate::records::installation::{Trial, WentBack};
use crate::records::lane::Quarantine;
use ironloom_trust::audit::{Chain, Outcome, Said};
use ironloom_types::ids::Generation;

/// Installations that are named at most.
const MOST_NOTES: usize = 10;
/// The interval at which upgrades are looked at that may be rolled back.
const LOOK: Duration = Duration::from_secs(1);
/// The time after which a rollback that the host could not do is tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// Upgrades that the host could neither roll back nor commit, by generation.
pub(in crate::node) type Stuck = Mutex<BTreeMap<Generation, Failure>>;

/// A try that came to nothing.
pub(in crate::node) struct Failure {
    at: Instant,
    why: String,
    is_quarantined: bool,
}

impl Node {
    /// Says which upgrades the host has rolled back, and which it could not.
    pub(in crate::node) fn went_back_note(&self) -> Vec<String> {
        let lanes = self.lanes.all().into_iter();
        let notes = lanes.filter_map(|lane| {
            let installation = lane.installation();
            let (id, version) = (&lane.id, &installation.version);
            let stuck = self.admin.stuck.lock();
            if let Some(Failure { why, is_quarantined: true, .. }) = stuck.get(&lane.generation) {
                return Some(format!(
                    "installation {id} stays quarantined with version {version}, and isn't rolled back: {why}"
                ));
            }
            drop(stuck);
            let WentBack { at, from, reason } = &**installation.went_back.as_ref()?;
            let reason = reason.as_ref()?;
            Some(format!(
                "installation {id} was rolled back from version {from} to {version} at {at}: {reason}"
            ))
        });
        notes.take(MOST_NOTES).collect()
    }

    /// The quarantine of an upgrade that may be rolled back. One from before is none of its doing.
    fn quarantine_since(&self, lane: &Lane, trial: &Trial) -> Option<Quarantine> {
        let before = self.shared.copies.get(trial.copy).and_then(|copy| copy.quarantined);
        lane.book().meta().quarantine.clone().filter(|quarantine| Some(quarantine.at) != before)
    }

    /// Notes that an upgrade stays, and tells of it where that is news.
    fn keep_stuck(&self, lane: &Lane, why: String, is_quarantined: bool) {
        let id = &lane.id;
        tracing::warn!(installation = %id, %why, "its upgrade could neither be rolled back nor committed; it is tried again");
        let failure = Failure { at: Instant::now(), why: why.clone(), is_quarantined };
        let before = self.admin.stuck.lock().insert(lane.generation, failure);
        if is_quarantined && before.is_none_or(|before| before.why != why) {
            let chain = Chain::Tenant(id.tenant());
            let said = by_the_host(chain, "rollback", format!("installations/{id}"), &why);
            drop(self.write_entry(Said { outcome: Outcome::Refused, ..said }));
        }
    }

    /// Forgets tries of those that are gone, were changed by people or run again.
    fn forget_stuck(&self, up: Duration) {
        let stuck: Vec<_> = self.admin.stuck.lock().keys().copied().collect();
        for generation in stuck {
            let is_one = self.lanes.of_generation(generation).is_some_and(|lane| {
                let trial = lane.installation().trial;
                trial.is_some_and(|trial| {
                    self.is_over(&trial, up) || self.quarantine_since(&lane, &trial).is_some()
                })
            });
            if !is_one {
                self.admin.stuck.lock().remove(&generation);
            }
        }
    }

    /// Says whether it was tried lately, to no avail.
    fn is_stuck(&self, generation: Generation) -> bool {
        let stuck = self.admin.stuck.lock();
        stuck.get(&generation).is_some_and(|failure| failure.at.elapsed() < AGAIN)
    }
}

/// Looks after all upgrades as long as the node is there.
pub(in crate::node) async fn watch(node: Weak<Node>) {
    let began = Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(node) = node.upgrade() else { return };
        node.forget_stuck(began.elapsed());
        for (number, lane) in node.lanes.all().into_iter().enumerate() {
            if number % AT_A_TIME == AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
            let Some(trial) = lane.installation().trial else { continue };
            if node.is_stuck(lane.generation) {
                continue;
            }
            let quarantine = node.quarantine_since(&lane, &trial);
            let is_quarantined = quarantine.is_some();
            let done = match quarantine {
                Some(quarantine) => {
                    let reason = format!("it was quarantined: {}", quarantine.reason);
                    // Nobody is there who could consent to anything.
                    let wanted = Wanted { reason: Some(reason.into()), ..Wanted::default() };
                    Arc::clone(&node).roll_back(lane.id.clone(), wanted).await.map(drop)
                }
                None if node.is_over(&trial, began.elapsed()) => {
                    node.commit_by_time(&lane, began.elapsed()).await
                }
                None => Ok(()),
            };
            if let Err(problem) = done {
                node.keep_stuck(&lane, problem.detail.clone(), is_quarantined);
            }
        }
    }
}
