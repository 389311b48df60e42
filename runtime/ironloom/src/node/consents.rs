//! Consent: what an install or an upgrade would give, and whether that is what somebody has consented to.

use std::sync::Arc;

use super::trust::Named;
use super::{Node, pages, problems};
use crate::api::facade::{
    Answer, Consent, ConsentGiven, Page, PageQuery, PendingConsent, Place, Problem, Revised, RevisionRequest,
    Rights,
};
use crate::fold::KnownPackage;
use crate::fold::durable::Term;
use crate::lanes::Lane;
use crate::records::admin::AdminRecord;
use crate::records::consent::{ConsentRecord, MOST_CONSENTS, MOST_REQUEST};
use ironloom_apps::allowance::{LimitKind, PartialLimits};
use ironloom_apps::consent::{Excess, Publisher, RefusedBy, RefusedRight, Words};
use ironloom_apps::plan::Plan;
use ironloom_types::clock::host_time;
use ironloom_types::ids::{Digest, InstallationId, SlotName, TenantId};

/// The rights that a change would give.
pub(super) struct Asks {
    pub(super) consent: Consent,
    /// The part that goes beyond what there was, and isn't named by the request.
    pub(super) wider: Vec<String>,
}

/// The consent to these rights, as a person is asked for it.
pub(super) fn consent_to(
    rights: Rights,
    known: &KnownPackage,
    plan: &Plan,
    policy: &PartialLimits,
) -> Consent {
    let points =
        |name: &SlotName| plan.inputs.iter().find(|input| input.name == *name).map(|input| input.points);
    let Words { gets, refused, warnings } = Words::of(&rights, &known.manifest, points, policy);
    let (package, version) = (known.record.digest, known.manifest.version.clone());
    let (digest, settings) = (rights.digest(package, &plan.settings), plan.settings.clone());
    Consent { digest, version, package, rights, settings, gets, refused, warnings }
}

/// 409 where a request consents to other rights than it would give.
pub(super) fn check_consent(given: Option<Digest>, consent: &Consent) -> Answer<()> {
    match given.filter(|given| *given != consent.digest) {
        None => Ok(()),
        Some(given) => {
            let is = consent.digest;
            let detail = format!("the consent is to {given}, and what it would get is {is} by now");
            Err(Problem::conflict("consent", detail).at(Place::field("consent")).hint(
                "Nothing was changed. A dry run shows what it would get, with the digest to consent to.",
            ))
        }
    }
}

impl Node {
    /// The rights that a change of an installation would give.
    ///
    /// # Errors
    /// The request consents to something else.
    pub(super) fn asks_of(
        &self,
        tenant: TenantId,
        before: &Term,
        known: &KnownPackage,
        plan: &Plan,
        request: &RevisionRequest,
    ) -> Answer<Asks> {
        let (manifest, was) = (&known.manifest, &before.revision);
        let is_other = known.record.digest != was.package;
        let mut trust = self.trust(tenant);
        if is_other {
            trust.check(known, Named::Nobody)?;
        }
        // A key that takes the place of another by a rotation is the same publisher.
        let publisher = trust.owner_of(&manifest.id);
        let rights = Rights::of(manifest, publisher, &plan.bindings, &plan.grants, &plan.limits);
        let had = Rights::of(&before.manifest, publisher, &was.bindings, &was.grants, &was.limits);
        let beyond = rights.beyond(&had);
        if !is_other && !beyond.is_empty() {
            // It goes on as it is, whatever the policy says by now, and gets no more.
            trust.check_allowed(known)?;
        }
        // With the same package, all that is more is named.
        let waits = |excess: &Excess| is_other && !names(request, excess);
        let wider = beyond.into_iter().filter(waits).map(|excess| excess.text).collect();
        let consent = consent_to(rights, known, plan, trust.most());
        check_consent(request.consent, &consent)?;
        Ok(Asks { consent, wider })
    }

    /// Has an upgrade wait for consent. What runs goes on.
    pub(super) async fn wait_for_consent(
        &self,
        lane: &Lane,
        before: &Term,
        known: &KnownPackage,
        asks: &Asks,
        request: &RevisionRequest,
    ) -> Answer<()> {
        let id = &lane.id;
        let text = serde_json::to_string(request).map_err(|error| problems::internal(&error))?;
        if text.len() > MOST_REQUEST {
            let detail = format!(
                "the change of {id} has {} bytes, and one that waits for consent at most {MOST_REQUEST}",
                text.len()
            );
            return Err(
                Problem::refused("consent", detail).hint("Send it with `consent`, and it needn't wait.")
            );
        }
        let asked = ConsentRecord {
            id: id.clone(),
            request: text.into(),
            package: known.record.digest,
            version: known.manifest.version.as_str().into(),
            before: before.manifest.version.as_str().into(),
            wider: asks.wider.iter().map(|text| text.as_str().into()).collect(),
            consent: asks.consent.digest,
            asked: host_time(),
            app: asks.consent.rights.app.clone(),
            publisher: match asks.consent.rights.publisher {
                Publisher::Key(key) => Some(key),
                Publisher::Unsigned => None,
            },
        };
        let _installing = self.admin.installing.lock().await;
        if !self.lanes.of(id).is_some_and(|now| std::ptr::eq(&*now, lane)) {
            return Err(Problem::conflict("gone", "it was uninstalled in the meantime"));
        }
        self.known_or_422(asked.id.tenant(), asked.package)?;
        {
            let waiting = self.shared.consents.read();
            if waiting.len() >= MOST_CONSENTS && !waiting.contains_key(id) {
                let detail =
                    format!("{MOST_CONSENTS} upgrades wait for consent already, and that is the most");
                return Err(Problem::refused("too-many-consents", detail)
                    .hint("`ironloom consents` lists them: accept or refuse some."));
            }
            // The same again says nothing new.
            let is_same = |before: &ConsentRecord| {
                (before.package, before.consent, &before.request)
                    == (asked.package, asked.consent, &asked.request)
            };
            if waiting.get(id).is_some_and(is_same) {
                return Ok(());
            }
        }
        self.change(AdminRecord::ConsentAsked(Box::new(asked))).await
    }

    /// The rights that an installation doesn't have, each with who hasn't given it.
    pub(super) fn refused_rights(&self, lane: &Lane) -> Vec<RefusedRight> {
        let newest = lane.newest();
        let (revision, manifest) = (&newest.revision, &newest.manifest);
        let config = self.config.load();
        let policy = &config.policy;
        let rights = Rights::of(manifest, None, &revision.bindings, &revision.grants, &revision.limits);
        let mut refused = Words::of(&rights, manifest, |_| None, &policy.limits).refused;
        let against =
            rights.capabilities.iter().filter_map(|one| Some((one, policy.check_capability(*one).err()?)));
        refused.extend(against.map(|(one, why)| RefusedRight {
            right: format!("capabilities.{}", one.name()),
            by: RefusedBy::Policy,
            held: true,
            text: format!("{}, until it is changed, though {why}", one.name()),
        }));
        for kind in LimitKind::ALL {
            let (has, most) = (kind.of(&revision.limits), policy.limits.get(kind));
            refused.extend(most.filter(|most| has > *most).map(|most| RefusedRight {
                right: format!("limits.{}", kind.name()),
                by: RefusedBy::Policy,
                held: true,
                text: format!(
                    "a limit {} of {}, until it is changed, though the host allows {}",
                    kind.name(),
                    kind.show(has),
                    kind.show(most)
                ),
            }));
        }
        for (name, grant) in &revision.grants.outputs {
            let (has, least) = (grant.every, policy.set_point_every);
            refused.extend(least.filter(|least| has < Some(*least)).map(|least| RefusedRight {
                right: format!("outputs.{name}"),
                by: RefusedBy::Policy,
                held: true,
                text: format!(
                    "set-points of {name} {}, until it is changed, though the host allows one in {least}",
                    has.map_or("as often as it asks".to_owned(), |has| format!("once in {has}"))
                ),
            }));
        }
        refused
    }

    /// The upgrades that wait.
    pub(super) fn waiting_consents(&self, tenant: TenantId, page: &PageQuery) -> Page<PendingConsent> {
        let waiting = self.shared.consents.read();
        let own = waiting.values().filter(|asked| asked.id.tenant() == tenant);
        pages::by_name(page, own, |asked| asked.id.to_string(), shown)
    }

    /// One that waits, with all that it would be as of now: what it was asked for with may have changed since.
    pub(super) async fn waiting_consent(self: Arc<Self>, id: InstallationId) -> Answer<PendingConsent> {
        let (asked, request) = self.consent_of(&id)?;
        let waits = shown(&asked);
        match self.revise_installation(id, request, None, true).await {
            Ok(Revised { changes, wider, consent, warnings, .. }) => {
                let digest = consent.as_ref().map_or(waits.consent, |consent| consent.digest);
                Ok(PendingConsent { wider, consent: digest, changes, gets: consent, warnings, ..waits })
            }
            Err(problem) if problem.status < 500 => {
                Ok(PendingConsent { problem: Some(problem.detail.clone()), ..waits })
            }
            Err(problem) => Err(problem),
        }
    }

    /// The change that waits for an installation.
    fn consent_of(&self, id: &InstallationId) -> Answer<(ConsentRecord, RevisionRequest)> {
        let asked = self.shared.consents.read().get(id).cloned().ok_or_else(|| none_waits(id))?;
        let request: RevisionRequest =
            serde_json::from_str(&asked.request).map_err(|error| problems::internal(&error))?;
        let request = RevisionRequest { consent: None, revision: None, ..request };
        Ok((asked, request))
    }

    /// Begins the revision that waits, by somebody's consent.
    pub(super) async fn accept_waiting(
        self: Arc<Self>,
        id: InstallationId,
        given: ConsentGiven,
    ) -> Answer<Revised> {
        let (asked, request) = self.consent_of(&id)?;
        if asked.package != given.package {
            let (is, named) = (asked.package, given.package);
            let detail = format!("the consent is to the package {named}, and {is} waits by now");
            return Err(Problem::conflict("consent", detail)
                .at(Place::field("package"))
                .hint(format!("Nothing was changed. `ironloom consents show {id}` shows what waits.")));
        }
        let request = RevisionRequest { consent: Some(given.consent), ..request };
        self.revise_installation(id, request, None, false).await
    }

    /// Forgets the upgrade that waits.
    pub(super) async fn refuse_waiting(self: Arc<Self>, id: InstallationId) -> Answer<()> {
        let _installing = self.admin.installing.lock().await;
        self.consent_of(&id)?;
        self.change(AdminRecord::ConsentRefused { id }).await
    }
}

/// Rights that a request names are consented to by whoever writes it.
fn names(request: &RevisionRequest, excess: &Excess) -> bool {
    let Some((part, name)) = excess.field.split_once('.') else {
        return excess.field == "mode" && request.grants.mode.is_some();
    };
    match part {
        "inputs" | "outputs" => {
            let bound = request.bindings.iter().any(|(slot, to)| slot.as_str() == name && to.is_some());
            bound || request.grants.outputs.iter().any(|(slot, to)| slot.as_str() == name && to.is_some())
        }
        "limits" => {
            let named = request.limits.on(PartialLimits::default());
            LimitKind::ALL.into_iter().any(|kind| kind.name() == name && named.get(kind).is_some())
        }
        _ => false,
    }
}

fn shown(asked: &ConsentRecord) -> PendingConsent {
    PendingConsent {
        installation: asked.id.clone(),
        app: asked.app.clone(),
        publisher: asked.publisher.into(),
        before: asked.before.to_string(),
        version: asked.version.to_string(),
        package: asked.package,
        asked: asked.asked,
        wider: asked.wider.iter().map(ToString::to_string).collect(),
        consent: asked.consent,
        changes: Vec::new(),
        gets: None,
        warnings: Vec::new(),
        problem: None,
    }
}

fn none_waits(id: &InstallationId) -> Problem {
    Problem::not_found(format!("no upgrade of an installation {id} waits for consent"))
        .hint("`ironloom consents` lists those that do.")
}
