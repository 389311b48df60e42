//! After an upgrade: going back to the version and the state from before, or committing it. The host does the one where the
//! new version is quarantined, and the other when its time is over.

mod rights;
mod watch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use self::rights::keep_within;
pub(super) use self::watch::{Stuck, watch};
use super::install::Counted;
use super::packages::load_problem;
use super::{Node, Turn, found_aside, problems};
use crate::api::facade::{Answer, Installation as Shown, Place, Problem, RolledBack};
use crate::config::Config;
use crate::fold::copies::ReadCopy;
use crate::fold::routes::PreparedRoutes;
use crate::fold::{BELIEVED_AFTER, KnownPackage, OneShots};
use crate::lanes::{App, Lane};
use crate::records::admin::{AdminRecord, Adopted, Ended, NewInstallation};
use crate::records::alarm::AlarmRecord;
use crate::records::copy::{self, Committed};
use crate::records::installation::{Installation, Revision, Trial, WentBack};
use crate::records::lane::{Episodes, LaneMeta, Quarantine, Trouble};
use ironloom_apps::cycles::find_cycle;
use ironloom_storage::failpoint;
use ironloom_types::clock::{BUILT_AFTER, Timestamp, host_time};
use ironloom_types::ids::{self, Digest, Generation, InstallationId, Sequence};
use ironloom_types::work::Gap;

/// The time that the host waits for a lane which it has nothing to interrupt for.
const FOR_TURN: Duration = Duration::from_millis(500);

/// A rollback that somebody wants.
#[derive(Default)]
pub(super) struct Wanted {
    /// Takes no readings again.
    pub keep_cursor: bool,
    pub dry_run: bool,
    /// The host's reason, where it does so by itself.
    pub reason: Option<Box<str>>,
    /// Somebody's word to the rights that come back.
    pub consent: Option<Digest>,
}

/// The things that a rollback goes back to.
struct Before {
    trial: Trial,
    /// The newest revision, and whether it was quarantined, when that was planned.
    revision: ids::Revision,
    quarantine: Option<Quarantine>,
    copy: ReadCopy,
    known: Arc<KnownPackage>,
    /// By whose policy its rights are narrowed.
    config: Arc<Config>,
    timers: OneShots,
    alarms: Vec<AlarmRecord>,
    routes: PreparedRoutes,
    again: Counted,
}

impl Node {
    /// Goes back to the version and the state from before an upgrade, or says what that would be.
    pub(super) async fn roll_back(
        self: Arc<Self>,
        id: InstallationId,
        Wanted { keep_cursor, dry_run, reason, consent }: Wanted,
    ) -> Answer<RolledBack> {
        self.check_space()?;
        let lane = self.lane(&id)?;
        let trial = lane.installation().trial.ok_or_else(|| no_trial(&id))?;
        let place = Arc::clone(&self.admin.planning).acquire_owned().await;
        let _place = place.map_err(|error| problems::internal(&error))?;
        let (node, of) = (Arc::clone(&self), Arc::clone(&lane));
        let before = found_aside(move || node.read_before(&of, trial, keep_cursor)).await?;
        let _held = self.admin.last_use.hold(before.copy.revision.package);
        let (to, again) = (before.copy.installation.version.clone(), before.again);
        let warnings = warnings(&lane, &before, keep_cursor);
        let rights = self.rights_back(&lane, &before.known, &before.copy.revision);
        let lane = match dry_run {
            true => {
                self.next_owner(&before.known, &mut before.copy.installation.clone())?;
                lane
            }
            false => {
                rights.check(&lane.id, consent)?;
                self.go_back(lane, before, keep_cursor, (reason, consent)).await?
            }
        };
        let installation = self.shown(lane).await?;
        let (again, again_at_least) = (again.readings, again.at_least);
        let (wider, consent) = (rights.wider, rights.consent);
        Ok(RolledBack { installation, to, again, again_at_least, warnings, wider, consent })
    }

    /// Reads the copy, and counts what is taken again. Waits for the disk.
    fn read_before(&self, lane: &Lane, trial: Trial, keep_cursor: bool) -> Answer<Before> {
        let read = self.shared.read_copy(trial.copy).map_err(|error| problems::internal(&error))?;
        let (revision, quarantine) = (lane.newest().number(), lane.book().meta().quarantine.clone());
        let mut copy = read.ok_or_else(|| no_trial(&lane.id))?;
        let (id, package) = (&lane.id, copy.revision.package);
        let missing = || {
            problems::internal(&format!("the package {package} from before the upgrade of {id} is missing"))
        };
        let known = self.known(package).ok_or_else(missing)?;
        let config = self.config.load_full();
        keep_within(&mut copy.revision, &known.manifest, &config.policy);
        let timers = self.shared.kept_timers(trial.copy).map_err(|error| problems::internal(&error))?;
        let alarms = self.shared.stored_alarms(trial.copy).map_err(|error| problems::internal(&error))?;
        let cursor = copy.meta.cursor;
        self.check_reach(&lane.id, cursor, keep_cursor)?;
        let changes = self.shared.routing.read().changes();
        let routes = self.matched(&copy.revision.bindings);
        let points = || routes.matches().iter().map(|(point, _)| *point).collect();
        let again = match keep_cursor {
            true => Counted::default(),
            false => self.count_readings(id.tenant(), cursor, points, Instant::now())?,
        };
        let routes = PreparedRoutes { routes, changes };
        Ok(Before { trial, revision, quarantine, copy, known, config, timers, alarms, routes, again })
    }

    /// 409 where readings since the copy aren't in the journal any more.
    fn check_reach(&self, id: &InstallationId, cursor: Sequence, keep_cursor: bool) -> Answer<()> {
        let first = self.shared.journal.of(id.tenant()).first();
        if keep_cursor || cursor.next() >= first {
            return Ok(());
        }
        let detail = format!(
            "the state from before the upgrade of {id} has dealt with readings through {cursor}, and the journal begins with {first}: \
             those in between can't be taken again"
        );
        Err(Problem::conflict("journal", detail).at(Place::field("keep-cursor")).hint(
            "Keep the cursor, and the old version goes on from here without them: keep-cursor=true, `ironloom rollback \
             --keep-cursor`.",
        ))
    }

    /// Writes the record while the lane stands still. 409 where somebody has changed the installation in between, or nobody
    /// consents to rights that come back.
    async fn go_back(
        self: &Arc<Self>,
        lane: Arc<Lane>,
        before: Before,
        keep_cursor: bool,
        (reason, consent): (Option<Box<str>>, Option<Digest>),
    ) -> Answer<Arc<Lane>> {
        let (id, known) = (&lane.id, Arc::clone(&before.known));
        let code = self.load(&known, &before.copy.revision.limits).await;
        let code = code.map_err(|error| load_problem(&error))?;
        failpoint("rollback-loaded");
        let turn = self.interrupt(id).await?;
        let is_same = Arc::ptr_eq(&turn.lane, &lane)
            && lane.installation().trial == Some(before.trial)
            && lane.newest().number() == before.revision;
        // The host undoes nothing that a person has done about it since, such as a resume.
        let is_right = reason.is_none()
            || before.quarantine.is_some() && lane.book().meta().quarantine == before.quarantine;
        if !(is_same && is_right) {
            let detail = format!("installation {id} was changed in the meantime; nothing is rolled back");
            return Err(Problem::conflict("revision", detail).hint("Send the request again."));
        }
        self.rights_back(&lane, &known, &before.copy.revision).check(id, consent)?;
        let mut given = self.installing_under(&before.config).await?;
        if let Some(circle) = find_cycle(id, &before.copy.revision.bindings, &*self.lanes) {
            return Err(problems::not_changed(&circle.into()));
        }
        self.check_reach(id, before.copy.meta.cursor, keep_cursor)?;
        let begun = self.next_generation(&given, id.tenant());
        given.note(begun);
        let generation = before.trial.copy;
        let ended = turn.ended();
        let Before { copy, timers, alarms, routes, .. } = before;
        let at = host_time();
        let went_back = WentBack { at, from: ended.installation.version.clone(), reason };
        let now = self.shared.clock.now();
        let mut new = goes_on(copy, timers, &ended, (generation, begun), keep_cursor, now);
        new.installation.went_back = Some(Box::new(went_back));
        // It was asked when this version came first, and may say something else by now.
        new.owner = self.next_owner(&known, &mut new.installation)?;
        let context = self.admin.contexts.of(&known.manifest, &new.revision, &new.revision.limits);
        let record = copy::RolledBack { ended, at, new, alarms };
        let routes = BTreeMap::from([(generation, routes)]);
        self.change_with(AdminRecord::RolledBack(Box::new(record)), routes).await?;
        failpoint("rollback-recorded");
        let new = self.start_new(generation, App { code, context });
        drop(given);
        drop(turn);
        new.ok_or_else(|| Problem::conflict("gone", "it was uninstalled before its rollback was answered"))
    }

    /// The time in which an upgrade that comes now may be rolled back, to this copy.
    pub(super) fn trial(&self, copy: Generation) -> Trial {
        let until = host_time().plus(self.config.load().copies.commit_after.0);
        Trial { copy, until }
    }

    /// Ends the time in which an upgrade may be rolled back.
    pub(super) async fn commit(self: Arc<Self>, id: InstallationId) -> Answer<Shown> {
        let turn = self.turn_of(&id).await?;
        if turn.lane.installation().trial.is_none() {
            return Err(no_trial(&id));
        }
        let lane = Arc::clone(&turn.lane);
        self.end_trial(turn, false).await?;
        self.keep_quota().await;
        self.shown(lane).await
    }

    async fn end_trial(&self, turn: Turn, by_time: bool) -> Answer<()> {
        let (id, generation) = (turn.lane.id.clone(), turn.lane.generation);
        self.change(AdminRecord::Committed(Committed { id, generation, by_time })).await?;
        failpoint("commit-recorded");
        drop(turn);
        Ok(())
    }

    /// Commits an upgrade whose time is over. One whose lane is at work is left for the next look: others wait for this one.
    /// The quota is kept later, once for all.
    async fn commit_by_time(&self, lane: &Lane, up: Duration) -> Answer<()> {
        let Ok(turn) = timeout(FOR_TURN, self.turn_of(&lane.id)).await else { return Ok(()) };
        let turn = turn?;
        match turn.lane.installation().trial {
            Some(trial) if self.is_over(&trial, up) => self.end_trial(turn, true).await,
            _ => Ok(()),
        }
    }

    fn is_over(&self, trial: &Trial, up: Duration) -> bool {
        // A clock that may be wrong ends none.
        let clock = &self.shared.clock;
        let now = clock.host().ok().filter(|_| self.clock_step.note(clock).is_none());
        is_over(trial, self.config.load().copies.commit_after.0, now, up)
    }
}

/// Says whether the time of a trial is over, which lasts so long, after the process has run `up`: the clock may be about to
/// be set right. One that began at a time that can't have been lasts as long by the process.
fn is_over(trial: &Trial, span: u64, now: Option<Timestamp>, up: Duration) -> bool {
    let by_process = Duration::from_nanos(span);
    let is_known = trial.until >= BUILT_AFTER.plus(span);
    let enough = if is_known { BELIEVED_AFTER.min(by_process) } else { by_process };
    up >= enough && now.is_some_and(|now| now >= trial.until)
}

/// 409: there is nothing to go back to.
fn no_trial(id: &InstallationId) -> Problem {
    let detail = format!(
        "installation {id} has no upgrade that may be rolled back or committed: there was none, it was made without a copy, or it \
         was committed"
    );
    Problem::conflict("no-trial", detail).hint(format!(
        "`ironloom show {id}` shows how long one may be; `ironloom upgrade` with the older package brings that without its state."
    ))
}

/// Warnings to the admin.
fn warnings(lane: &Lane, before: &Before, keep_cursor: bool) -> Vec<String> {
    let mut warnings = Vec::new();
    let ReadCopy { installation, meta, revision } = &before.copy;
    let newest = lane.newest();
    if newest.number().0 > revision.number.0 + 1 {
        warnings.push(format!(
            "what was changed since the upgrade goes: it goes back to the bindings, grants, settings and limits of revision {}",
            revision.number
        ));
    }
    let cursor = lane.book().meta().cursor;
    if keep_cursor && cursor > meta.cursor {
        let from = meta.cursor.next();
        warnings.push(format!(
            "readings {from} to {cursor} aren't taken again: version {} is told that it misses those that were for it",
            installation.version
        ));
    }
    warnings
}

/// The installation as it goes on with a copy, of this generation.
fn goes_on(
    copy: ReadCopy,
    timers: OneShots,
    ended: &Ended,
    (generation, begun): (Generation, Generation),
    keep_cursor: bool,
    now: Timestamp,
) -> NewInstallation {
    let ReadCopy { installation, mut meta, revision } = copy;
    // Whatever else is shown of the generation before stays with that; what runs again rests on its state.
    (meta.episodes, meta.invocations_gone, meta.repaired) =
        (Episodes::default(), meta.ordinal, Some(meta.ordinal));
    // One that was quarantined is tried again, as where an admin resumes it.
    (meta.trouble, meta.quarantine) = (Trouble::default(), None);
    (meta.last_error, meta.last_timer_error) = (None, None);
    // They are there.
    meta.points = ended.meta.points;
    if keep_cursor {
        miss(&mut meta, &revision, ended.meta.cursor, now);
    }
    meta.leave_future(now);
    meta.note_published(ended.meta.dealt_with());
    let number = ids::Revision(ended.installation.revision.0 + 1);
    let standing = ended.installation.standing;
    let installation =
        Installation { generation, begun, revision: number, standing, trial: None, ..installation };
    let revision = Revision { number, begun, from: meta.cursor.next(), ..revision };
    let timers = timers.into_iter().map(|(name, set)| (name, Some(set))).collect();
    let adopted = Some(Box::new(Adopted { alarms: Vec::new(), timers }));
    NewInstallation { installation, revision, meta, adopted, owner: None }
}

/// Moves over readings that the generation before has dealt with. Nobody counts them.
fn miss(meta: &mut LaneMeta, revision: &Revision, through: Sequence, now: Timestamp) {
    let gap =
        |slot: &ids::SlotName| Gap { slot: slot.clone(), first: meta.time.min(now), last: now, count: 0 };
    let gaps: Vec<_> = revision.bindings.inputs.iter().map(|input| gap(&input.name)).collect();
    meta.miss(through, &gaps);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_ends_only_by_a_clock_that_is_right_and_a_process_that_has_run_for_a_while() {
        const HOUR: Duration = Duration::from_secs(3_600);
        let span = |span: Duration| span.as_nanos() as u64;
        let began = BUILT_AFTER.plus(span(24 * HOUR));
        let (minute, day) = (span(HOUR / 60), span(24 * HOUR));
        let trial = |span| Trial { copy: Generation(2), until: began.plus(span) };
        let over = Some(began.plus(day));
        assert!(is_over(&trial(day), day, over, HOUR));
        assert!(!is_over(&trial(day), day, Some(began.plus(day - 1)), 48 * HOUR));
        assert!(!is_over(&trial(day), day, over, HOUR / 2), "the clock may be about to be set right");
        assert!(!is_over(&trial(day), day, None, 48 * HOUR), "the clock can't be right");
        assert!(is_over(&trial(minute), minute, over, HOUR / 60), "no longer than the trial itself");
        // The clock stood in 1970 at the upgrade.
        let early = Trial { copy: Generation(2), until: Timestamp(day) };
        assert!(!is_over(&early, day, over, 23 * HOUR));
        assert!(is_over(&early, day, over, 24 * HOUR));
    }
}
