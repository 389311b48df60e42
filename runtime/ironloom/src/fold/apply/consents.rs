//! Upgrades that wait for consent.

use super::Applier;
use crate::fold::stored::encode;
use crate::records::consent::ConsentRecord;
use crate::records::installation::Installation;
use ironloom_storage::store::Key;
use ironloom_types::ids::InstallationId;

impl Applier {
    pub(super) fn ask_consent(&self, asked: ConsentRecord) {
        let key = Key::consent(&asked.id);
        self.shared.overlay.apply([(key, Some(encode(&asked)))]);
        self.shared.consents.write().insert(asked.id.clone(), asked);
    }

    pub(super) fn end_consent(&self, id: &InstallationId) {
        if self.shared.consents.write().remove(id).is_some() {
            self.shared.overlay.apply([(Key::consent(id), None)]);
        }
    }

    /// An installation has the package that it waited for: somebody has consented.
    pub(super) fn meet_consent(&self, now: &Installation) {
        let waits =
            self.shared.consents.read().get(&now.id).is_some_and(|asked| asked.package == now.package);
        if waits {
            self.end_consent(&now.id);
        }
    }
}
