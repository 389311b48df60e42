//! Changing an installation while it runs, by a new revision: planned and loaded without a lock, then written while its
//! lane stands still.

mod asked;
mod upgrade;

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use self::asked::Asked;
use self::upgrade::{Ends, migrates, revised};
use super::consents::Asks;
use super::copies::StandsStill;
use super::install::{SitePoints, site, too_many_shapes};
use super::packages::load_problem;
use super::{Node, found_aside, problems};
use crate::api::facade::{
    Answer, FieldChange, IfMatch, Match, Place, Problem, Revised, RevisionRequest, Tag, changes,
};
use crate::config::Config;
use crate::fold::KnownPackage;
use crate::fold::durable::Term;
use crate::fold::routes::PreparedRoutes;
use crate::lanes::Lane;
use crate::records::admin::{self, AdminRecord, FROM_HERE};
use crate::records::installation::{Installation, Revision};
use crate::records::lane::{LaneMeta, Trouble};
use ironloom_apps::allowance::LimitKind;
use ironloom_apps::binding::{Bindings, InputBinding};
use ironloom_apps::cycles::find_cycle;
use ironloom_apps::manifest::Manifest;
use ironloom_apps::plan::{self, MAX_SAMPLES, Plan, plan_change};
use ironloom_apps::problem::Problems;
use ironloom_apps::routing::Prepared;
use ironloom_sandbox::LoadedApp;
use ironloom_storage::failpoint;
use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{self, InstallationId, PointNumber, Sequence, SlotName};
use ironloom_types::limits::{MAX_MATCHES, MAX_PENDING_REVISIONS};

/// A revision that is about to be.
struct New {
    revision: Revision,
    known: Arc<KnownPackage>,
    /// Its new bindings, if they are other ones than before.
    rewired: Option<Rewired>,
    warnings: Vec<String>,
    asks: Asks,
    /// By whose policy it was planned.
    config: Arc<Config>,
    /// Held until its record is written: the matches may need much memory.
    place: OwnedSemaphorePermit,
}

struct Begin {
    /// It has the readings that wait.
    at_cursor: bool,
    copies: bool,
    if_match: Option<IfMatch>,
}

/// The points that other bindings match.
#[derive(Default)]
struct Rewired {
    routes: Option<PreparedRoutes>,
    matches: Vec<Match>,
    newly: Vec<Match>,
    no_longer: Vec<Match>,
}

impl Node {
    /// Begins a new revision of an installation, or says what it would change.
    pub(super) async fn revise_installation(
        self: Arc<Self>,
        id: InstallationId,
        request: RevisionRequest,
        if_match: Option<IfMatch>,
        dry_run: bool,
    ) -> Answer<Revised> {
        let lane = self.lane(&id)?;
        let before = lane.newest();
        check_match(&lane, &before, if_match.as_ref())?;
        check_guard(&lane, &before, request.revision)?;
        let mut new = self.planned_revision(&lane, &before, &request).await?;
        let _held = self.admin.last_use.hold(new.revision.package);
        if is_same(&before.revision, &new.revision) {
            return self.as_it_would_be(lane, &before, new, false).await;
        }
        if !dry_run && request.consent.is_none() && !new.asks.wider.is_empty() {
            self.wait_for_consent(&lane, &before, &new.known, &new.asks, &request).await?;
            let revised = self.as_it_would_be(Arc::clone(&lane), &before, new, false).await?;
            return Ok(Revised { installation: self.shown(lane).await?, waits: true, ..revised });
        }
        let at_cursor = request.at_cursor.unwrap_or_else(|| lane.book().meta().quarantine.is_some());
        if dry_run && new.revision.package == before.revision.package {
            check_pending(&lane, self.first_of(&lane, at_cursor))?;
            return self.as_it_would_be(lane, &before, new, at_cursor).await;
        }
        let code = self.load(&new.known, &new.revision.limits).await;
        let code = code.map_err(|error| load_problem(&error))?;
        let at_cursor = if migrates(&before, &new.revision, &code) {
            upgrade::check_backlog(&lane, &new.known.manifest, request.at_cursor)?;
            new.warnings.push(upgrade::migration_told(&before, &new.known.manifest));
            true
        } else {
            at_cursor
        };
        if dry_run {
            check_pending(&lane, self.first_of(&lane, at_cursor))?;
            return self.as_it_would_be(lane, &before, new, at_cursor).await;
        }
        let is_other = new.revision.package != before.revision.package;
        let copies = is_other && request.copy != Some(false) && self.config.load().copies.number > 0;
        if copies {
            self.check_copies(&lane)?;
        }
        let begin = Begin { at_cursor, copies, if_match };
        let revised = self.begin_revision(&lane, &before, new, begin, code).await;
        if copies {
            self.keep_quota().await;
        }
        revised
    }

    /// The revision that a change would begin, with warnings about it. Nothing is changed.
    pub(super) async fn revision_to_try(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        request: &RevisionRequest,
    ) -> Answer<(Revision, Arc<KnownPackage>, Vec<String>)> {
        let before = lane.newest();
        check_guard(lane, &before, request.revision)?;
        let New { revision, known, warnings, .. } = self.planned_revision(lane, &before, request).await?;
        Ok((revision, known, warnings))
    }

    /// Plans aside: points may be looked at.
    async fn planned_revision(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        before: &Arc<Term>,
        request: &RevisionRequest,
    ) -> Answer<New> {
        let place = Arc::clone(&self.admin.planning).acquire_owned().await;
        let place = place.map_err(|error| problems::internal(&error))?;
        let (node, lane, before) = (Arc::clone(self), Arc::clone(lane), Arc::clone(before));
        let request = request.clone();
        found_aside(move || node.plan_revision(&lane, &before, &request, place)).await
    }

    /// Checks what is asked for against the newest revision.
    fn plan_revision(
        &self,
        lane: &Lane,
        before: &Term,
        request: &RevisionRequest,
        place: OwnedSemaphorePermit,
    ) -> Answer<New> {
        let revision = &before.revision;
        let known = match request.package.filter(|package| *package != revision.package) {
            Some(package) => self.next_package(lane, package)?,
            None => self.known(revision.package).ok_or_else(|| {
                problems::internal(&format!("the package {} of {} is missing", revision.package, lane.id))
            })?,
        };
        let manifest = &known.manifest;
        let mut wrong = Vec::new();
        let asked = Asked::of(before, manifest, request, &mut wrong);
        let Asked { bindings, grants, settings, limits, timezone, warnings: mut told } = asked;
        let asked = plan::Request {
            id: &lane.id,
            bindings: &bindings,
            grants: &grants,
            settings: &settings,
            limits: &limits,
            timezone: timezone.as_deref(),
        };
        let config = self.config.load_full();
        let changes = self.shared.routing.read().changes();
        let site = site(&config);
        let planned =
            plan_change(asked, manifest, site, &revision.bindings, &SitePoints::of(self), &*self.lanes);
        let (plan, prepared) = match (planned, wrong.is_empty()) {
            (Ok(planned), true) => planned,
            (planned, _) => {
                wrong.extend(planned.err().into_iter().flat_map(|problems| problems.0));
                return Err(problems::not_changed(&Problems(wrong)));
            }
        };
        told.extend(warnings(lane, before, &plan));
        if known.record.digest != revision.package {
            told.extend(upgrade::warnings(lane, before, manifest, &plan.bindings));
        }
        let asks = self.asks_of(lane.id.tenant(), before, &known, &plan, request)?;
        let rewired = match prepared {
            Some(prepared) => {
                Some(self.rewired(&lane.id, before, &plan, PreparedRoutes { routes: prepared, changes })?)
            }
            None => None,
        };
        let Plan { bindings, grants, settings, limits, timezone, warnings: more, .. } = plan;
        told.extend(more);
        let new = Revision {
            number: ids::Revision(revision.number.0 + 1),
            begun: lane.installation().begun,
            from: FROM_HERE,
            package: known.record.digest,
            // In memory once.
            bindings: if *bindings == *revision.bindings { Arc::clone(&revision.bindings) } else { bindings },
            grants,
            settings: Arc::new(settings),
            limits,
            timezone,
            keep_up: request.keep_up.unwrap_or(revision.keep_up),
        };
        Ok(New { revision: new, known, rewired, warnings: told, asks, config, place })
    }

    /// Compares what other bindings match with what the present ones do.
    fn rewired(
        &self,
        id: &InstallationId,
        before: &Term,
        plan: &Plan,
        routes: PreparedRoutes,
    ) -> Answer<Rewired> {
        let new = &routes.routes;
        if new.matches().len() > MAX_MATCHES {
            let detail =
                format!("its inputs match more than {MAX_MATCHES} points together, the most there may be");
            return Err(Problem::refused("too-many-matches", detail).hint("Bind fewer points to it."));
        }
        if !self.shared.routing.read().shapes().take(&plan.bindings) {
            return Err(too_many_shapes(0, id, 1));
        }
        let old = self.matched(&before.revision.bindings);
        let (names, numbers) = inputs_of_both(&plan.bindings, &before.revision.bindings);
        let sorted = |prepared: &Prepared, number: &dyn Fn(u16) -> u16| {
            let pairs = prepared.matches().iter().map(|(point, matched)| (number(matched.input()), *point));
            let mut pairs: Vec<_> = pairs.collect();
            pairs.sort_unstable();
            pairs
        };
        let (was, is) = (sorted(&old, &|input| numbers[usize::from(input)]), sorted(new, &|input| input));
        let others = |of: &[(u16, PointNumber)], than: &[(u16, PointNumber)]| -> Vec<Match> {
            let only: Vec<_> = of.iter().filter(|pair| than.binary_search(pair).is_err()).copied().collect();
            self.matches_of(&names, &only)
        };
        let (newly, no_longer) = (others(&is, &was), others(&was, &is));
        let mut matches = self.matches_of(&names, &is);
        // Those without any are told, too.
        for input in &plan.inputs {
            if input.points == 0 {
                matches.push(Match { input: input.name.to_string(), points: 0, samples: Vec::new() });
            }
        }
        let is_routed = plan.bindings.inputs != before.revision.bindings.inputs;
        let routes = is_routed.then_some(routes);
        Ok(Rewired { routes, matches, newly, no_longer })
    }

    /// These matches by input, which come in its order, with samples.
    fn matches_of(&self, names: &[&SlotName], pairs: &[(u16, PointNumber)]) -> Vec<Match> {
        let of_input = |pairs: &[(u16, PointNumber)]| {
            let input = pairs.first().and_then(|(input, _)| names.get(usize::from(*input)));
            let samples = pairs.iter().take(MAX_SAMPLES).filter_map(|(_, point)| self.sample(*point));
            Match {
                input: input.map_or_else(String::new, ToString::to_string),
                points: pairs.len() as u64,
                samples: samples.collect(),
            }
        };
        pairs.chunk_by(|a, b| a.0 == b.0).map(of_input).collect()
    }

    /// Shows an installation as a change would leave it.
    async fn as_it_would_be(
        self: &Arc<Self>,
        lane: Arc<Lane>,
        before: &Term,
        new: New,
        at_cursor: bool,
    ) -> Answer<Revised> {
        let New { mut revision, known, rewired, warnings, asks, .. } = new;
        let is_same = is_same(&before.revision, &revision);
        if is_same {
            (revision.number, revision.from) = (before.number(), before.from());
        } else {
            revision.from = self.first_of(&lane, at_cursor);
        }
        let now = self.shown(Arc::clone(&lane)).await?;
        let mut would_be = super::installations::show(
            &installed(&lane.installation(), &revision, &known.manifest),
            &revision,
            &known.manifest,
            lane.book().meta(),
            now.state,
            now.lag,
        );
        would_be.signers.clone_from(&known.record.signers);
        let changes = changes(&now, &would_be);
        let installation = if is_same { now } else { would_be };
        let answer = answer(installation, changes, revision.from, rewired.unwrap_or_default(), warnings);
        Ok(Revised { wider: asks.wider, consent: Some(asks.consent), ..answer })
    }

    /// Writes a revision while the lane stands still. 409 or 412 where another came in between.
    async fn begin_revision(
        self: &Arc<Self>,
        lane: &Arc<Lane>,
        before: &Term,
        new: New,
        Begin { at_cursor, copies, if_match }: Begin,
        code: Arc<LoadedApp>,
    ) -> Answer<Revised> {
        let New { mut revision, known, rewired, warnings, config, place, .. } = new;
        let shown = self.shown(Arc::clone(lane)).await?;
        let is_other = revision.package != before.revision.package;
        let StandsStill { turn, copy, place } = self.stands_still(lane, copies, place).await?;
        if !Arc::ptr_eq(&turn.lane, lane) {
            return Err(Problem::conflict("gone", "it was installed again in the meantime"));
        }
        check_match(lane, &lane.newest(), if_match.as_ref())?;
        check_guard(lane, &lane.newest(), Some(before.number()))?;
        check_pending(lane, self.first_of(lane, at_cursor))?;
        let migrated = match migrates(before, &revision, &code) {
            true => Some(self.migrated(lane, before, (&known, &revision), &code, place).await?),
            false => None,
        };
        let _installing = self.installing_under(&config).await?;
        if rewired.is_some()
            && let Some(circle) = find_cycle(&lane.id, &revision.bindings, &*self.lanes)
        {
            return Err(problems::not_changed(&circle.into()));
        }
        if self.known(revision.package).is_none() {
            return Err(Problem::conflict("package", "its package was deleted in the meantime"));
        }
        if at_cursor {
            // A reading may be in the journal and not noted yet.
            let next = self.shared.journal.of(lane.id.tenant()).last().next();
            self.pass().await?;
            revision.from = lane.queue.lock().pending().unwrap_or(next);
        }
        // Another one of its app may have been installed since it was planned.
        let mut installation = installed(&lane.installation(), &revision, &known.manifest);
        installation.trial = self.trial_behind(installation.trial, copy.as_ref());
        let owner = if is_other { self.next_owner(&known, &mut installation)? } else { None };
        let now = self.shared.clock.now();
        let mut meta = lane.book().meta().clone();
        meta.cron_due = cron_due(&meta, before, &known.manifest, &revision, now);
        meta.trouble = Trouble::default();
        let ends = if is_other { Ends::of(&lane.book(), &known.manifest, now) } else { Ends::default() };
        ends.count(&mut meta);
        let revised = admin::Revised { owner, ..revised(installation, revision, meta, ends, migrated) };
        let mut rewired = rewired.unwrap_or_default();
        let routes = rewired.routes.take().into_iter().map(|routes| (lane.generation, routes)).collect();
        self.change_with(AdminRecord::Revised(Box::new(revised)), routes).await?;
        if is_other {
            failpoint("upgrade-recorded");
        }
        self.start_terms(lane, &known, &code);
        self.admin.loading.again();
        lane.pace.lock().begin_anew();
        let from = lane.newest().from();
        drop(turn);
        let installation = self.shown(Arc::clone(lane)).await?;
        let changes = changes(&shown, &installation);
        Ok(answer(installation, changes, from, rewired, warnings))
    }

    /// The first sequence of a revision that began now.
    fn first_of(&self, lane: &Lane, at_cursor: bool) -> Sequence {
        let pending = at_cursor.then(|| lane.queue.lock().pending()).flatten();
        pending.unwrap_or_else(|| self.shared.journal.of(lane.id.tenant()).last().next())
    }
}

/// The answer about a change.
fn answer(
    installation: crate::api::facade::Installation,
    changes: Vec<FieldChange>,
    from: Sequence,
    Rewired { matches, newly, no_longer, .. }: Rewired,
    warnings: Vec<String>,
) -> Revised {
    let (wider, waits, consent) = (Vec::new(), false, None);
    Revised { installation, changes, from, matches, newly, no_longer, warnings, wider, waits, consent }
}

/// The names of the inputs of new bindings, behind them those that only the old ones have; and for each input of the old
/// ones its place among the names.
fn inputs_of_both<'b>(new: &'b Bindings, old: &'b Bindings) -> (Vec<&'b SlotName>, Vec<u16>) {
    let mut names: Vec<&SlotName> = new.inputs.iter().map(|input| &input.name).collect();
    let places = old.inputs.iter().map(|InputBinding { name, .. }| {
        let known = names.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            names.push(name);
            names.len() - 1
        }) as u16
    });
    let places = places.collect();
    (names, places)
}

/// The installation with another newest revision.
fn installed(before: &Installation, revision: &Revision, manifest: &Manifest) -> Installation {
    let (package, number) = (revision.package, revision.number);
    let (app, version) = (manifest.id.clone(), manifest.version.clone());
    // Another version, for which there may be a copy, or none.
    let trial = before.trial.filter(|_| package == before.package);
    Installation { app, version, package, revision: number, trial, went_back: None, ..before.clone() }
}

/// 412 where a header names other revisions than the newest.
pub(super) fn check_match(lane: &Lane, newest: &Term, if_match: Option<&IfMatch>) -> Answer<()> {
    let now = Tag { generation: lane.generation, revision: newest.number() };
    if_match.map_or(Ok(()), |if_match| if_match.check(&lane.id, now))
}

/// 409 where the newest revision isn't the one that a request was made from.
fn check_guard(lane: &Lane, newest: &Term, made_from: Option<ids::Revision>) -> Answer<()> {
    match made_from.filter(|made_from| *made_from != newest.number()) {
        None => Ok(()),
        Some(made_from) => {
            let (id, now) = (&lane.id, newest.number());
            let detail = format!(
                "installation {id} has revision {now}, and the change is for revision {made_from}: another came in between"
            );
            Err(Problem::conflict("revision", detail).at(Place::field("revision")).hint(format!(
                "`ironloom show {id}` shows it as it is now; send the change again if it still holds."
            )))
        }
    }
}

/// 409 where readings wait for too many revisions besides one that begins here.
fn check_pending(lane: &Lane, from: Sequence) -> Answer<()> {
    let pending = lane.queue.lock().pending();
    let terms = lane.terms();
    let (left, _) = terms.split(pending);
    let wait = left.iter().filter(|term| term.from() < from).count();
    if pending.is_none() || wait < MAX_PENDING_REVISIONS {
        return Ok(());
    }
    let id = &lane.id;
    let detail =
        format!("readings of installation {id} wait for {wait} revisions already, the most there may be");
    Err(Problem::conflict("too-many-revisions", detail)
        .hint("Let it work off what waits; `ironloom show` says if it is paused or quarantined.")
        .hint("Or give all of it to the new revision: at_cursor, `ironloom set --at-cursor`."))
}

/// Says whether nothing is other than before.
fn is_same(before: &Revision, after: &Revision) -> bool {
    *before == Revision { number: before.number, from: before.from, ..after.clone() }
}

/// Warnings about limits below what the installation has.
fn warnings(lane: &Lane, before: &Term, plan: &Plan) -> Vec<String> {
    let book = lane.book();
    let has = |kind| match kind {
        LimitKind::State => Some(book.meta().state_bytes),
        LimitKind::Points => Some(book.meta().points),
        _ => None,
    };
    let below = LimitKind::ALL.into_iter().filter_map(|kind| {
        let (has, limit) = (has(kind)?, kind.of(&plan.limits));
        (has > limit && limit < kind.of(&before.revision.limits)).then(|| {
            let (name, has, limit) = (kind.name(), kind.show(has), kind.show(limit));
            format!("limits.{name}: it has {has}, more than the {limit} from now on; it keeps them and gets no more")
        })
    });
    below.collect()
}

/// When repeating timers are due next. Those that are declared as before, in the same zone, stay due as they are.
fn cron_due(
    meta: &LaneMeta,
    before: &Term,
    manifest: &Manifest,
    revision: &Revision,
    now: Timestamp,
) -> Vec<(SlotName, Timestamp)> {
    let zone = revision.zone();
    let is_same_zone = before.revision.timezone == revision.timezone;
    let due = manifest.timers.iter().filter_map(|timer| {
        let was = before.manifest.timer(timer.name.as_str());
        let stays = is_same_zone && was.is_some_and(|was| was.cron == timer.cron);
        let kept = meta.cron_due.iter().find(|(name, _)| stays && *name == timer.name).map(|(_, due)| *due);
        let due = kept.or_else(|| timer.cron.next_after(now, &zone))?;
        Some((timer.name.clone(), due))
    });
    due.collect()
}
