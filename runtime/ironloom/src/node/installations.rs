//! Installations as people see them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use super::packages::setting_value;
use super::pages::Filling;
use super::{Node, problems};
use crate::api::facade::{
    Answer, Installation, InstallationState, Lag, LastError, LeftOut, LeftOutPoint, Page, PageQuery,
    Patterns, Problem, WrittenLimits,
};
use crate::aside::aside;
use crate::lanes::Lane;
use crate::records::installation::{self, Revision, Standing};
use crate::records::lane::LaneMeta;
use ironloom_apps::manifest::Manifest;
use ironloom_types::clock::SECOND;
use ironloom_types::ids::{InstallationId, SlotName};

impl Node {
    /// The lane of an installation, or 404.
    pub(super) fn lane(&self, id: &InstallationId) -> Answer<Arc<Lane>> {
        let missing = || {
            Problem::not_found(format!("there is no installation {id}")).hint("`ironloom list` lists them.")
        };
        self.lanes.of(id).ok_or_else(missing)
    }

    /// The installations by id.
    pub(super) fn list_installations(&self, page: &PageQuery) -> Page<Installation> {
        // With one more it is known whether the page is the last.
        let lanes = self.lanes.behind(page.after.as_deref(), page.limit.saturating_add(1));
        let mut filling = Filling::new(page.limit);
        let more = filling.extend(lanes.iter().map(|lane| self.show_lane(lane)));
        let next = filling.items.last().filter(|_| more).map(|last| last.id.to_string());
        Page { items: filling.items, next }
    }

    /// Installations, as the API shows them. Looks into the journal, so it works aside.
    pub(super) async fn all_shown(self: &Arc<Self>, lanes: Vec<Arc<Lane>>) -> Answer<Vec<Installation>> {
        let node = Arc::clone(self);
        let shown = aside(move || lanes.iter().map(|lane| node.show_lane(lane)).collect()).await;
        shown.map_err(|error| problems::internal(&error))
    }

    /// An installation, as the API shows it. Looks into the journal, so it works aside.
    pub(super) async fn shown(self: &Arc<Self>, lane: Arc<Lane>) -> Answer<Installation> {
        let node = Arc::clone(self);
        let shown = aside(move || node.show_lane(&lane)).await;
        shown.map_err(|error| problems::internal(&error))
    }

    pub(super) fn show_lane(&self, lane: &Lane) -> Installation {
        let installation = lane.installation();
        let mut meta = lane.book().meta().clone();
        meta.last_error = lane.pace.lock().trouble.clone().or(meta.last_error);
        let state = self.state_of(lane);
        let mut shown = show(&installation, &lane.revision, &lane.manifest, &meta, state, self.lag(lane));
        shown.left_out = self.left_out(lane);
        if lane.app().is_none() {
            shown.last_error = self.admin.loading.failure(lane.generation).or(shown.last_error);
        }
        shown
    }

    fn left_out(&self, lane: &Lane) -> LeftOut {
        let left_out = self.shared.left_out.of(lane.number);
        let inputs = &lane.revision.bindings.inputs;
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
        let waiting = {
            let pace = lane.pace.lock();
            pace.waits_until().is_some_and(|until| until > Instant::now())
        };
        if quarantined {
            InstallationState::Quarantined
        } else if lane.installation().standing == Standing::Paused {
            InstallationState::Paused
        } else if lane.app().is_none() {
            InstallationState::Starting
        } else if waiting {
            InstallationState::Waiting
        } else {
            InstallationState::Running
        }
    }

    /// How many readings wait for a lane, and whether they may be fewer: where it is behind its notes, every
    /// reading of the journal from there on counts, and which of them are its own shows when it comes to them.
    pub(super) fn lag_readings(&self, lane: &Lane) -> (u64, bool) {
        let (noted, behind) = {
            let queue = lane.queue.lock();
            (queue.noted() as u64, queue.behind_from())
        };
        let in_journal =
            behind.map_or(0, |behind| (self.shared.journal.last().0 + 1).saturating_sub(behind.0));
        (noted + in_journal, in_journal > 0)
    }

    /// Returns how far a lane is behind.
    fn lag(&self, lane: &Lane) -> Lag {
        let (readings, at_most) = self.lag_readings(lane);
        let (head, behind) = {
            let queue = lane.queue.lock();
            (queue.head_time(), queue.behind_from())
        };
        let oldest = head.or_else(|| self.shared.journal.time_from(behind?).ok()?);
        let seconds = oldest
            .map_or(0.0, |oldest| self.shared.clock.now().0.saturating_sub(oldest.0) as f64 / SECOND as f64);
        Lag { readings, at_most, seconds, oldest }
    }
}

pub(super) fn show(
    installation: &installation::Installation,
    revision: &Revision,
    manifest: &Manifest,
    meta: &LaneMeta,
    state: InstallationState,
    lag: Lag,
) -> Installation {
    let settings = manifest.settings.iter().filter_map(|setting| {
        let text = revision.settings.get(setting.name.as_str())?;
        Some((setting.name.clone(), setting_value(setting, text)))
    });
    let bindings: BTreeMap<SlotName, Patterns> = revision
        .bindings
        .asked()
        .into_iter()
        .filter_map(|(slot, patterns)| Some((SlotName::new(&slot).ok()?, Patterns::Many(patterns))))
        .collect();
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
        id: installation.id.clone(),
        app: installation.app.clone(),
        version: installation.version.clone(),
        package: installation.package,
        state,
        paused: installation.standing == Standing::Paused,
        revision: installation.revision,
        generation: installation.generation,
        cursor: meta.cursor,
        lag,
        last_error: last_error.or_else(|| meta.last_error.clone()),
        last_timer_error: meta.last_timer_error.clone(),
        counters: meta.counters,
        left_out: LeftOut::default(),
        bindings,
        grants: revision.grants.clone(),
        settings: settings.collect(),
        limits: WrittenLimits::from(&revision.limits),
        timezone: revision.timezone.clone(),
    }
}

/// The later one of the failures that are noted.
fn last_failure(meta: &LaneMeta) -> Option<&LastError> {
    let timer = meta.last_timer_error.as_ref().map(|last| &last.error);
    meta.last_error.iter().chain(timer).max_by_key(|error| error.at)
}
