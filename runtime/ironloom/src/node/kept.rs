//! The states that are kept of installations that are gone: their list, and the one that an install adopts.

use super::pages::fill;
use super::{Node, problems};
use crate::api::facade::{Adopt, Answer, InstallRequest, KeptAs, KeptState, Page, PageQuery, Place, Problem};
use crate::fold::{Gone, OneShots};
use crate::records::alarm::AlarmRecord;
use crate::records::installation::Installation;
use crate::records::lane::LaneMeta;
use ironloom_apps::manifest::Manifest;
use ironloom_types::ids::{Generation, InstallationId, TenantId};

/// A generation that is kept, with what an installation takes over besides the state.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) generation: Generation,
    /// The installation as it was.
    pub(super) ended: Installation,
    /// Its last bookkeeping. What later generations of its id have published counts as published.
    pub(super) meta: LaneMeta,
    pub(super) timers: OneShots,
    /// Those that were there in the end, as they are in the history.
    pub(super) alarms: Vec<AlarmRecord>,
}

impl Kept {
    /// About what it takes in the record of an install, besides what any install takes.
    pub(super) fn bytes(&self) -> usize {
        let alarms: usize = self.alarms.iter().map(AlarmRecord::cost).sum();
        alarms + self.timers.iter().map(|(name, _)| name.len() + 32).sum::<usize>()
    }
}

impl Node {
    /// A tenant's states that are kept, in the order of the generations.
    pub(super) fn list_kept(&self, tenant: TenantId, page: &PageQuery) -> Answer<Page<KeptState>> {
        // Generations count from 1.
        let after = match page.after.as_deref().map(str::parse) {
            None => Generation::of(tenant, 0),
            Some(Ok(after)) => Generation::of(tenant, after),
            Some(Err(_)) => {
                let detail = "`after` must be the `next` of the page before, a number";
                return Err(Problem::malformed("bad-parameter", detail).at(Place::field("after")));
            }
        };
        let mut fault = None;
        let (items, next) = fill(
            page.limit,
            |behind: Option<&(Generation, Gone)>, most| {
                self.shared.gone_behind(behind.map_or(after, |(generation, _)| *generation), most)
            },
            |(generation, gone)| {
                self.show_kept(*generation, gone).map_err(|error| fault = Some(error)).ok().flatten()
            },
        );
        match fault {
            Some(error) => Err(problems::internal(&error)),
            None => Ok(Page { items, next: next.map(|(generation, _)| generation.to_string()) }),
        }
    }

    /// `None` where it is gone or adopted by now.
    fn show_kept(&self, generation: Generation, gone: &Gone) -> Result<Option<KeptState>, String> {
        let Some(lane) = self.shared.stored_lane(generation)? else { return Ok(None) };
        let Some(removed) = lane.removed else { return Ok(None) };
        let bytes = lane.ended.is_some().then_some(lane.meta.state_bytes);
        let (app, version, package) = match lane.ended {
            Some(ended) => (Some(ended.app), Some(ended.version), Some(ended.package)),
            None => (None, None, None),
        };
        Ok(Some(KeptState {
            id: gone.installation.clone(),
            generation,
            state: if removed.purge { KeptAs::Purging } else { KeptAs::Kept },
            app,
            version,
            package,
            bytes,
            ended: removed.at,
            until: removed.kept_until(),
        }))
    }

    /// Says what somebody should know who installs without adopting what is kept of the same id.
    pub(super) fn kept_told(&self, id: &InstallationId) -> Option<String> {
        let removed = self.shared.removed.lock();
        let (generation, gone) =
            removed.iter().rfind(|(_, gone)| gone.installation == *id && !gone.removed.purge)?;
        let until = gone.removed.kept_until().map_or_else(String::new, |until| format!(" until {until}"));
        Some(format!(
            "the state of an earlier {id} is kept{until}, generation {generation}, and it begins without that; to go on \
             with it, uninstall this one and install it with --adopt={generation}"
        ))
    }

    /// Reads what a request adopts; `None` where it adopts nothing. Waits for the disk.
    pub(super) fn to_adopt(&self, request: &InstallRequest, manifest: &Manifest) -> Answer<Option<Kept>> {
        let InstallRequest { id, adopt: Some(adopt), from, .. } = request else { return Ok(None) };
        if from.is_some() {
            let detail =
                "an installation that adopts a state goes on behind the last reading that went into it";
            return Err(Problem::refused("install", detail)
                .at(Place::field("from"))
                .hint("Leave `from` out. To pass over what came since: pause it, and resume it with its backlog dropped."));
        }
        let (generation, gone) = self.kept_of(id, *adopt)?;
        let kept = self.read_kept(generation, &gone).map_err(|error| problems::internal(&error))?;
        let kept = kept.ok_or_else(|| nothing_kept(id))?;
        if kept.ended.app != manifest.id {
            let detail = format!(
                "what is kept of {id} (generation {generation}) is of the app {}, and the package is {} {}: an app doesn't \
                 go on with the state of another",
                kept.ended.app, manifest.id, manifest.version
            );
            return Err(Problem::refused("other-app", detail)
                .at(Place::field("package"))
                .hint("Install a package of that app, or leave `adopt` out."));
        }
        if request.new_publisher.is_some() {
            let detail = "the state of one publisher's app doesn't go over to another publisher";
            return Err(Problem::refused("publisher-changed", detail)
                .at(Place::field("adopt"))
                .hint("Leave `adopt` out: it begins with nothing in its state."));
        }
        Ok(Some(kept))
    }

    fn kept_of(&self, id: &InstallationId, adopt: Adopt) -> Answer<(Generation, Gone)> {
        let is_being_purged = self.admin.purging.lock().contains(id);
        let removed = self.shared.removed.lock();
        let found = match adopt {
            Adopt::Newest => {
                let of_id = || removed.iter().rev().filter(|(_, gone)| gone.installation == *id);
                of_id().find(|(_, gone)| !gone.removed.purge).or_else(|| of_id().next())
            }
            Adopt::Generation(generation) => removed.get_key_value(&generation.within(id.tenant())),
        };
        let Some((generation, gone)) = found else {
            return Err(match adopt {
                Adopt::Newest => nothing_kept(id),
                Adopt::Generation(generation) => {
                    not_kept(format!("no generation {generation} is kept of {id}"))
                }
            });
        };
        if gone.installation != *id {
            let of = &gone.installation;
            return Err(not_kept(format!("generation {generation} is one of {of}, and not of {id}")));
        }
        if gone.removed.purge || is_being_purged {
            let detail =
                format!("what {id} has kept (generation {generation}) is being purged, and can't be adopted");
            return Err(Problem::conflict("purging", detail)
                .at(Place::field("adopt"))
                .hint("Leave `adopt` out: it begins with nothing in its state."));
        }
        Ok((*generation, gone.clone()))
    }

    /// `None` where it is gone by now.
    fn read_kept(&self, generation: Generation, gone: &Gone) -> Result<Option<Kept>, String> {
        let shared = &self.shared;
        let Some(lane) = shared.stored_lane(generation)? else { return Ok(None) };
        let Some(ended) = lane.ended else { return Ok(None) };
        let mut meta = lane.meta;
        let later = shared.gone_behind(generation, usize::MAX).into_iter();
        for (later, _) in later.filter(|(_, other)| other.installation == gone.installation) {
            let published = shared.stored_lane(later)?.and_then(|later| later.meta.dealt_with());
            meta.note_published(published);
        }
        let timers = shared.kept_timers(generation)?;
        let alarms = shared.kept_alarms(generation, gone)?;
        Ok(Some(Kept { generation, ended, meta, timers, alarms }))
    }
}

fn nothing_kept(id: &InstallationId) -> Problem {
    not_kept(format!(
        "nothing is kept of an installation {id}: there was none, or what it had was purged, as it is a week after its end"
    ))
}

/// 422: there is nothing of this kind to adopt.
fn not_kept(detail: String) -> Problem {
    Problem::refused("not-kept", detail).at(Place::field("adopt")).hint(
        "`ironloom list --gone` lists what is kept; without `adopt` it begins with nothing in its state.",
    )
}
