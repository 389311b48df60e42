//! The rights that a rollback gives back: none that were taken away since, unless somebody consents to that, and none that
//! the host's policy denies.

use crate::api::facade::{Answer, Place, Problem, Rights};
use crate::config::Policy;
use crate::fold::KnownPackage;
use crate::lanes::Lane;
use crate::node::Node;
use crate::records::installation::Revision;
use ironloom_apps::allowance;
use ironloom_apps::manifest::Manifest;
use ironloom_types::ids::{Digest, InstallationId};

/// The rights that an installation would go back to.
pub(super) struct Back {
    /// Those that were taken away since.
    pub(super) wider: Vec<String>,
    /// The digest by which somebody consents to them.
    pub(super) consent: Digest,
}

impl Node {
    /// Compares the rights of before an upgrade with the present ones.
    pub(super) fn rights_back(&self, lane: &Lane, known: &KnownPackage, to: &Revision) -> Back {
        let newest = lane.newest();
        let (now, manifest) = (&newest.revision, &newest.manifest);
        let publisher = self.trust(lane.id.tenant()).owner_of(&known.manifest.id);
        let rights = Rights::of(&known.manifest, publisher, &to.bindings, &to.grants, &to.limits);
        let present = Rights::of(manifest, publisher, &now.bindings, &now.grants, &now.limits);
        let taken = rights.taken_away(&present, manifest);
        let consent = rights.digest(to.package, &to.settings);
        Back { wider: taken.into_iter().map(|excess| excess.text).collect(), consent }
    }
}

impl Back {
    /// 409 where a right would come back to which nobody consents, or somebody has consented to other ones.
    pub(super) fn check(&self, id: &InstallationId, given: Option<Digest>) -> Answer<()> {
        let detail = match given {
            Some(given) if given == self.consent => return Ok(()),
            Some(given) => {
                format!(
                    "the consent is to {given}, and what {id} would go back to is {} by now",
                    self.consent
                )
            }
            None if self.wider.is_empty() => return Ok(()),
            None => {
                let wider = self.wider.join("; ");
                format!(
                    "rights of {id} were taken away since its copy was made, and a rollback gives them back: {wider}"
                )
            }
        };
        let hint = format!(
            "Nothing was changed. `ironloom rollback {id} --dry-run` shows what comes back, with the digest for --consent."
        );
        Err(Problem::conflict("consent", detail).at(Place::field("consent")).hint(hint))
    }
}

/// Narrows a revision of before to what the host's policy allows now.
pub(super) fn keep_within(revision: &mut Revision, manifest: &Manifest, policy: &Policy) {
    revision.grants.slow_down(manifest, policy.set_point_every);
    revision.limits = allowance::within(&revision.limits, &policy.limits);
}
