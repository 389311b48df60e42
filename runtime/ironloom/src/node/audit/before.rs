//! What a change takes the place of, in words: its record has only what comes.

use super::super::Node;
use crate::records::admin::{self, AdminRecord};
use crate::records::owner::AppOwner;
use ironloom_trust::audit::Said;

/// Ids that go over to somebody else, of which an entry tells; a list of installs may have many.
const MOST_OWNERS_TOLD: usize = 5;

impl Node {
    /// Adds to the words for a record that isn't written yet what was there before it.
    pub(in crate::node) fn told_with_before(&self, mut told: String, record: &AdminRecord) -> String {
        let owners: Vec<&AppOwner> = match record {
            AdminRecord::Revised(revised) => {
                told += &self.told_before(revised).unwrap_or_default();
                revised.owner.iter().map(AsRef::as_ref).collect()
            }
            AdminRecord::Installed(new) => new.iter().filter_map(|new| new.owner.as_deref()).collect(),
            _ => return told,
        };
        let before = self.shared.owners.read();
        let over = owners.into_iter().filter_map(|owner| {
            let (app, key) = (&owner.app, owner.key?);
            let was = before.get(&(owner.tenant, app.clone()))?.key.filter(|was| *was != key)?;
            Some(format!("; the id {app} belongs to {key} from here on, and before to {was}"))
        });
        told.extend(over.take(MOST_OWNERS_TOLD));
        told
    }

    /// The versions of an upgrade with its package, or the fields that another change changes.
    fn told_before(&self, revised: &admin::Revised) -> Option<String> {
        let lane = self.lane(&revised.installation.id).ok()?;
        let (before, new) = (lane.newest(), &revised.revision);
        if before.revision.package != new.package {
            let (was, is) = (&before.manifest.version, &revised.installation.version);
            return Some(format!(": version {was} to {is}, package {}", new.package));
        }
        let was = &before.revision;
        let fields = [
            ("bindings", was.bindings != new.bindings),
            ("grants", was.grants != new.grants),
            ("settings", was.settings != new.settings),
            ("limits", was.limits != new.limits),
            ("timezone", was.timezone != new.timezone),
            ("keep_up", was.keep_up != new.keep_up),
        ];
        let changed: Vec<_> = fields.into_iter().filter_map(|(field, is)| is.then_some(field)).collect();
        (!changed.is_empty()).then(|| format!(": other {}", changed.join(", ")))
    }
}

/// Has the entry of a single install name what it made: the request's path has no id yet.
pub(in crate::node) fn named(mut said: Said, record: &AdminRecord) -> Said {
    if let AdminRecord::Installed(new) = record
        && let [one] = new.as_slice()
    {
        said.resource = format!("installations/{}", one.installation.id).into();
    }
    said
}
