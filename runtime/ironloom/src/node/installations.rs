//! Installations as people see them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::pages::Filling;
use super::{Node, found_aside};
use crate::api::described::setting_value;
use crate::api::facade::{
    Answer, Installation, InstallationState, Lag, LastError, LeftOut, LeftOutPoint, Page, PageQuery,
    PartialLimits, PendingRevision, Problem, Rate, WentBack,
};
use crate::lanes::Lane;
use crate::records::installation::{self, Revision, Standing};
use crate::records::lane::LaneMeta;
use ironloom_apps::manifest::Manifest;
use ironloom_storage::log::Room;
use ironloom_trust::key::PublicKey;
use ironloom_types::clock::SECOND;
use ironloom_types::ids::{Digest, InstallationId, Sequence, SlotName, TenantId};

impl Node {
    /// The lane of an installation, or 404.
    pub(super) fn lane(&self, id: &InstallationId) -> Answer<Arc<Lane>> {
        let missing = || {
            Problem::not_found(format!("there is no installation {id}")).hint("`ironloom list` lists them.")
        };
        self.lanes.of(id).ok_or_else(missing)
    }

    /// 404 where there is no installation of this id, nor anything that is kept of one, nor an event: whoever listens to
    /// one that is misspelt would wait for ever.
    pub(super) fn has_events_of(&self, id: &InstallationId) -> Answer<()> {
        let lane = self.lane(id).map(drop);
        let is_kept = || self.shared.removed.lock().values().any(|gone| gone.installation == *id);
        if lane.is_err() && (is_kept() || self.telemetry.metrics.events.name(id)) {
            return Ok(());
        }
        lane.map_err(|mut problem| {
            problem.detail = format!("there is no installation {id}, nor are there events of one");
            problem
        })
    }

    /// A tenant's installations by id.
    pub(super) fn list_installations(&self, tenant: TenantId, page: &PageQuery) -> Page<Installation> {
        // With one more it is known whether the page is the last.
        let lanes = self.lanes.behind(tenant, page.after.as_deref(), page.limit.saturating_add(1));
        let mut filling = Filling::new(page.limit);
        let more = filling.extend(lanes.iter().map(|lane| self.show_lane(lane)));
        let next = filling.items.last().filter(|_| more).map(|last| last.id.to_string());
        Page { items: filling.items, next }
    }

    /// An installation, as the API shows it. Looks into the journal, so it works aside.
    pub(super) async fn shown(self: &Arc<Self>, lane: Arc<Lane>) -> Answer<Installation> {
        let node = Arc::clone(self);
        found_aside(move || Ok(node.show_lane(&lane))).await
    }

    pub(super) fn show_lane(&self, lane: &Lane) -> Installation {
        let installation = lane.installation();
        let mut meta = lane.book().meta().clone();
        meta.last_error = lane.pace.lock().trouble.clone().or(meta.last_error);
        let state = self.state_of(lane);
        let newest = lane.newest();
        let (revision, manifest) = (&newest.revision, &newest.manifest);
        let mut shown = show(&installation, revision, manifest, &meta, state, self.lag(lane));
        shown.signers = self.signers(installation.package);
        shown.against = self.against(lane.id.tenant(), installation.package);
        shown.waits_for_consent =
            self.shared.consents.read().get(&lane.id).map(|asked| asked.version.to_string());
        shown.pending_revisions = pending_revisions(lane);
        shown.halted = newest.manifest.has_set_points()
            && self.shared.outbox.look(|outbox| outbox.halted().has(&lane.id));
        shown.left_out = self.left_out(lane);
        shown.waits_for = self.waits_for(lane);
        shown.rate = self.rate_of(lane);
        shown.trial = self.trial_of(lane);
        if !lane.has_app() {
            shown.last_error = self.admin.loading.failure(lane.generation).or(shown.last_error);
        }
        shown
    }

    /// The keys that have signed a package.
    pub(super) fn signers(&self, package: Digest) -> Vec<PublicKey> {
        self.known(package).map_or_else(Vec::new, |known| known.record.signers.clone())
    }

    fn left_out(&self, lane: &Lane) -> LeftOut {
        let newest = lane.newest();
        let left_out = self.shared.left_out.of(newest.route);
        let inputs = &newest.revision.bindings.inputs;
        let samples = left_out.samples.into_iter().map(|sample| LeftOutPoint {
            point: sample.point.to_string(),
            input: inputs
                .get(usize::from(sample.input))
                .map_or_else(String::new, |input| input.name.to_string()),
            reason: sample.reason,
        });
        LeftOut { points: left_out.count, samples: samples.collect() }
    }

    pub(super) fn state_of(&self, lane: &Lane) -> InstallationState {
        let quarantined = lane.book().meta().quarantine.is_some();
        let backs_off = {
            let pace = lane.pace.lock();
            pace.waits_until().is_some_and(|until| until > Instant::now())
        };
        if lane.migrates() {
            InstallationState::Upgrading
        } else if quarantined {
            InstallationState::Quarantined
        } else if lane.installation().standing == Standing::Paused {
            InstallationState::Paused
        } else if !lane.has_app() {
            InstallationState::Starting
        } else if backs_off || lane.waits_for_room() {
            InstallationState::Waiting
        } else {
            InstallationState::Running
        }
    }

    /// The room that a lane waits for, where it does.
    pub(super) fn waits_for(&self, lane: &Lane) -> Option<String> {
        if !lane.waits_for_room() {
            return None;
        }
        if self.committer.room() == Room::None {
            return Some("room in the log: a checkpoint is giving some back".to_owned());
        }
        if self.shared.is_disk_full() {
            return Some("room on the disk: see /readyz".to_owned());
        }
        let own = lane.state.read().bytes().dirty >> 20;
        Some(format!(
            "the store: no checkpoint has taken {own} MiB of its state yet; it goes on once one has, and installations \
             with less go first"
        ))
    }

    /// Counts the readings that wait for a lane, and says whether they may be fewer: where it is behind its notes, every
    /// reading of the journal from there on counts, and which of them are its own shows when it comes to them.
    pub(super) fn lag_readings(&self, lane: &Lane) -> (u64, bool) {
        let (noted, behind) = {
            let queue = lane.queue.lock();
            (queue.noted() as u64, queue.behind_from())
        };
        let in_journal = behind.map_or(0, |behind| {
            (self.shared.journal.of(lane.id.tenant()).last().0 + 1).saturating_sub(behind.0)
        });
        (noted + in_journal, in_journal > 0)
    }

    /// Returns how far a lane is behind.
    pub(super) fn lag(&self, lane: &Lane) -> Lag {
        let (readings, at_most) = self.lag_readings(lane);
        let (head, behind) = {
            let queue = lane.queue.lock();
            (queue.head_time(), queue.behind_from())
        };
        let oldest = head.or_else(|| self.shared.journal.of(lane.id.tenant()).time_from(behind?).ok()?);
        let seconds = oldest
            .map_or(0.0, |oldest| self.shared.clock.now().0.saturating_sub(oldest.0) as f64 / SECOND as f64);
        let expires = oldest.zip(self.config.load().journal.max_age).map(|(oldest, age)| oldest.plus(age.0));
        Lag { readings, at_most, seconds, oldest, expires }
    }
}

/// The revisions before the newest from whose time readings wait.
fn pending_revisions(lane: &Lane) -> Vec<PendingRevision> {
    let (terms, pending) = (lane.terms(), lane.queue.lock().pending());
    let (left, _) = terms.split(pending);
    let before = left.iter().take(left.len() - 1);
    let newest = terms.newest().revision.package;
    let pending = before.map(|term| {
        let version = (term.revision.package != newest).then(|| term.manifest.version.clone());
        PendingRevision { revision: term.number(), from: term.from(), version }
    });
    pending.collect()
}

/// The settings of a revision, defaults included, as the API has them.
pub(super) fn settings_of(manifest: &Manifest, revision: &Revision) -> BTreeMap<SlotName, serde_json::Value> {
    let settings = manifest.settings.iter().filter_map(|setting| {
        let text = revision.settings.get(setting.name.as_str())?;
        Some((setting.name.clone(), setting_value(setting, text)))
    });
    settings.collect()
}

pub(super) fn show(
    installation: &installation::Installation,
    revision: &Revision,
    manifest: &Manifest,
    meta: &LaneMeta,
    state: InstallationState,
    lag: Lag,
) -> Installation {
    let last_error = meta.quarantine.as_ref().map(|quarantine| LastError {
        at: quarantine.at,
        kind: "quarantine".to_owned(),
        message: match last_failure(meta) {
            Some(error) => {
                format!("{}; the last failure was {}: {}", quarantine.reason, error.kind, error.message)
            }
            None => quarantine.reason.clone(),
        },
        ordinal: meta.ordinal,
    });
    Installation {
        // Where copies are known.
        trial: None,
        went_back: installation.went_back.as_deref().map(|went_back| WentBack {
            at: went_back.at,
            from: went_back.from.clone(),
            reason: went_back.reason.as_deref().map(str::to_owned),
        }),
        id: installation.id.clone(),
        app: installation.app.clone(),
        version: installation.version.clone(),
        package: installation.package,
        signers: Vec::new(),
        against: None,
        waits_for_consent: None,
        refused: Vec::new(),
        state,
        paused: installation.standing == Standing::Paused,
        halted: false,
        revision: installation.revision,
        pending_revisions: Vec::new(),
        generation: installation.generation,
        cursor: meta.cursor,
        holds_back_through: holds_back_through(meta),
        lag,
        waits_for: None,
        last_error: last_error.or_else(|| meta.last_error.clone()),
        last_timer_error: meta.last_timer_error.clone(),
        counters: meta.counters,
        dead_letters_kept: meta.dead_letters_kept,
        state_bytes: meta.state_bytes,
        points: meta.points,
        rate: Rate::default(),
        left_out: LeftOut::default(),
        bindings: revision.bindings.asked(),
        grants: revision.grants.clone(),
        settings: settings_of(manifest, revision),
        limits: PartialLimits::from(&revision.limits),
        timezone: revision.timezone.clone(),
        keep_up: revision.keep_up,
    }
}

/// How far a generation derives again what an earlier one has published.
fn holds_back_through(meta: &LaneMeta) -> Option<Sequence> {
    let through = meta.published?.through.sequence;
    (meta.cursor < through).then_some(through)
}

/// The later one of the failures that are noted.
fn last_failure(meta: &LaneMeta) -> Option<&LastError> {
    let timer = meta.last_timer_error.as_ref().map(|last| &last.error);
    meta.last_error.iter().chain(timer).max_by_key(|error| error.at)
}

#[cfg(test)]
mod tests {
    use crate::node::tests::World;
    use crate::records::admin::{AdminRecord, StateChanged};
    use ironloom_types::ids::Ordinal;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_installation_shows_the_dead_letters_that_are_kept_and_the_size_of_its_state() {
        let world = World::new().await;
        let node = &world.node;
        let lane = node.lanes.all().remove(0);
        let shown = || {
            let shown = node.show_lane(&lane);
            (shown.dead_letters_kept, shown.state_bytes)
        };
        assert_eq!(shown(), (1, 0));
        let generation = lane.generation;
        let changed = StateChanged {
            id: lane.id.clone(),
            generation,
            key: "warmest".into(),
            value: Some(b"31.5".to_vec()),
            // The key, the value, and 128 for any key.
            bytes: 7 + 4 + 128,
            repaired: Ordinal(0),
        };
        node.change(AdminRecord::StateChanged(Box::new(changed))).await.unwrap();
        assert_eq!(shown(), (1, 139));
        let deleted = AdminRecord::DeadLetterDeleted { generation, number: 1, kept: 0, bytes: 0 };
        node.change(deleted).await.unwrap();
        assert_eq!(shown(), (0, 139));
        world.end().await;
    }
}
