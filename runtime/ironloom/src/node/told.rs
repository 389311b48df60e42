//! Changes by admins in words, for the server's log and the audit log.

use crate::records::admin::{AdminRecord, Expired, NewInstallation, PointRenamed, StateChanged};
use crate::records::catalog::CatalogRecord;
use crate::records::connector::ConnectorRecord;
use crate::records::installation::{Installation, Standing};
use crate::records::intent::Asked;
use ironloom_types::ids::{Digest, Generation, InstallationId};

fn told_confirmed(asked: &Asked) -> String {
    format!("intent {} was confirmed by a person", asked.place.id())
}

/// What the server's log says of a change.
pub(super) fn told(record: &AdminRecord) -> String {
    match record {
        AdminRecord::PackageAdded { package, .. } => format!("package {} was added", package.digest),
        AdminRecord::PackageRemoved(digest) => format!("package {digest} was deleted"),
        AdminRecord::Compiled { package, .. } => format!("package {package} was compiled anew"),
        AdminRecord::Installed(new) => told_installed(new),
        AdminRecord::Standing { id, standing, .. } => match standing {
            Standing::Paused => format!("installation {id} was paused"),
            Standing::Running => format!("installation {id} was resumed"),
        },
        AdminRecord::Uninstalled { ended, purge, .. } => {
            let Installation { id, generation, .. } = &ended.installation;
            let purged = if *purge { " and purged" } else { "" };
            format!("installation {id}, generation {generation}, was uninstalled{purged}")
        }
        AdminRecord::PackageHeld { package, holds, .. } => told_held(*package, *holds),
        AdminRecord::Tenant(tenant) => tenant.to_string(),
        AdminRecord::Token(change) => change.to_string(),
        AdminRecord::Alarm { generation, alarm, .. } => {
            format!("alarm {generation}-{} ({}) was changed by a person", alarm.number, alarm.code)
        }
        AdminRecord::DeadLetterDeleted { generation, number, .. } => {
            format!("dead letter {number} of generation {generation} was deleted")
        }
        AdminRecord::TimeSet { to, .. } => format!("journal time was set back to {to}"),
        AdminRecord::Purged { id, generations, points } => told_purged(id, generations, *points),
        AdminRecord::Revised(revised) => {
            let Installation { id, revision, .. } = &revised.installation;
            format!("installation {id} has revision {revision}")
        }
        AdminRecord::Reset(reset) => told_reset(&reset.new.installation),
        AdminRecord::StateChanged(changed) => {
            let StateChanged { id, key, value, .. } = &**changed;
            let deed = if value.is_some() { "set" } else { "deleted" };
            format!("key {key:?} of the state of installation {id} was {deed} by a person")
        }
        AdminRecord::PointSet(set) => format!("a person said what point {} is", set.number.0),
        AdminRecord::PointsRetired(retired) => {
            let readings = if retired.readings { "their readings stay" } else { "with their readings" };
            format!("{} points were retired, {readings}", retired.numbers.len())
        }
        AdminRecord::PointRenamed(renamed) => told_renamed(renamed),
        AdminRecord::IntentConfirmed(asked) => told_confirmed(asked),
        AdminRecord::UnitsGiven(units) => format!("{} points were given their units", units.len()),
        AdminRecord::Missed { id, gaps, .. } => {
            let missed: u64 = gaps.iter().map(|gap| gap.count).sum();
            format!(
                "installation {id} misses {missed} readings that wait for it: they are past the journal's retention"
            )
        }
        AdminRecord::Dropped { before, .. } => {
            format!("readings before sequence {before} are past the journal's retention and were dropped")
        }
        AdminRecord::Expired(expired) => told_expired(expired),
        AdminRecord::ConnectorSet(set) => told_connector(set),
        AdminRecord::ConnectorRemoved { name } => format!("connector {name} was removed"),
        AdminRecord::CatalogSet(set) => told_catalog(set),
        AdminRecord::CatalogRemoved { name } => format!("what was seen of the catalog {name} is forgotten"),
        AdminRecord::ConsentAsked(asked) => asked.to_string(),
        AdminRecord::Audit(change) => change.to_string(),
        AdminRecord::ConsentRefused { id } => format!("the upgrade of installation {id} was refused"),
        AdminRecord::CopyBegun(begun) => begun.to_string(),
        AdminRecord::Copied(copied) => copied.to_string(),
        AdminRecord::Committed(committed) => committed.to_string(),
        AdminRecord::RolledBack(rolled_back) => rolled_back.to_string(),
        AdminRecord::CopiesDropped(dropped) => dropped.to_string(),
    }
}

fn told_held(package: Digest, holds: bool) -> String {
    let deed = if holds { "brought" } else { "given up" };
    format!("package {package} was {deed}")
}

fn told_purged(id: &InstallationId, generations: &[Generation], points: bool) -> String {
    let points = if points { ", and its points" } else { "" };
    let generations: Vec<_> = generations.iter().map(ToString::to_string).collect();
    format!("what installation {id} had kept was purged: generation {}{points}", generations.join(", "))
}

fn told_reset(Installation { id, generation, .. }: &Installation) -> String {
    format!("installation {id} was reset, to generation {generation}")
}

fn told_catalog(CatalogRecord { name, source, .. }: &CatalogRecord) -> String {
    match source {
        Some(source) => format!("catalog {name} was found in {source}"),
        None => format!("catalog {name} isn't here, and what was seen of it is kept"),
    }
}

fn told_renamed(PointRenamed { from, path, .. }: &PointRenamed) -> String {
    format!("point {} is {path} from now on", from.0)
}

fn told_connector(set: &ConnectorRecord) -> String {
    let deed = match (&set.table, set.stopped) {
        (_, true) => "is stopped",
        (Some(_), false) => "is to run with the keys that the log has",
        (None, false) => "is to run",
    };
    format!("connector {} {deed}", set.name)
}

fn told_expired(expired: &Expired) -> String {
    let Expired { id, invocations_gone_before, episodes_gone, dead_letters_gone, meta, .. } = expired;
    let invocations = meta.invocations_gone.0 - invocations_gone_before.0;
    let (episodes, letters) = (episodes_gone.len(), dead_letters_gone.len());
    format!(
        "{invocations} invocations, {episodes} episodes of alarms and {letters} dead letters of installation {id} are past \
         their retention and were dropped"
    )
}

/// The ids of many would be a long line.
fn told_installed(new: &[NewInstallation]) -> String {
    match new {
        [
            NewInstallation {
                installation: Installation { id, app, version, generation, .. }, adopted, ..
            },
        ] => {
            let adopted = if adopted.is_some() { ", which was kept" } else { "" };
            format!("{app} {version} was installed as {id}, generation {generation}{adopted}")
        }
        [first, .., last] => {
            let (first, last) = (&first.installation, &last.installation);
            format!(
                "{} installations were made, {} (generation {}) to {} (generation {})",
                new.len(),
                first.id,
                first.generation,
                last.id,
                last.generation
            )
        }
        [] => "no installation was made".to_owned(),
    }
}
