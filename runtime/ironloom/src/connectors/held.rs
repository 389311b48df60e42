//! Connectors that are held until apps are there, so that no reading comes before whoever is to get it.

use std::time::Duration;

use super::{Part, Run, Sink, State, Status};
use crate::connectors::TENANT;
use ironloom_apps::toml_section::Field;
use ironloom_types::ids::InstallationId;

/// Installations that a connector may wait for.
const MOST: usize = 100;
/// The pause between two looks at them.
const LOOK: Duration = Duration::from_millis(200);

/// Reads `wait_for`: ids of installations.
pub(super) fn wait_for(field: &Field<'_, '_>) -> Option<Vec<InstallationId>> {
    let ids = field
        .texts()?
        .into_iter()
        .map(|id| InstallationId::new(TENANT, &id).map_err(|error| error.to_string()));
    let ids = field.checked(ids.collect::<Result<Vec<_>, _>>())?;
    let few = (ids.len() <= MOST).then_some(ids);
    field.checked(few.ok_or_else(|| format!("may name at most {MOST} installations")))
}

/// Looks which of these installations aren't there, and says that it is held where there are some.
pub(super) fn is_held(ids: &[InstallationId], sink: &dyn Sink, status: &Status) -> bool {
    let missing: Vec<_> = ids.iter().filter(|id| !sink.is_installed(id)).cloned().collect();
    let is_held = !missing.is_empty();
    if is_held {
        status.set(Part::Readings, State::Held);
    }
    status.waits_for(missing);
    is_held
}

/// Waits until these installations are there; `false` where the connector shall stop. One that has begun goes on without
/// them.
pub(super) async fn wait(ids: &[InstallationId], run: &mut Run) -> bool {
    while is_held(ids, &*run.sink, &run.status) {
        if !run.sleep(LOOK).await {
            run.status.waits_for(Vec::new());
            return false;
        }
    }
    !run.stopping()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn installations_are_named_by_their_ids_and_not_without_end() {
        let read = |list: &str| {
            let text = format!(
                "[connectors.c]\nkind = \"csv\"\npath = \"x\"\nat = \"at\"\nwait_for = {list}\n\
                 [connectors.c.columns.v]\npoint = \"p\"\n"
            );
            Config::read(&text)
                .map(|config| config.connectors["c"].wait_for().len())
                .map_err(|e| e.to_string())
        };
        assert_eq!(read("[]"), Ok(0));
        assert_eq!(read("[\"pigs\", \"sums\"]"), Ok(2));
        for (list, part) in [
            ("[\"Pigs\"]", "connectors.c.wait_for: "),
            ("\"pigs\"", "must be a list of texts"),
            ("[1]", "must be a list of texts"),
            (&*format!("{:?}", vec!["a"; 101]), "at most 100 installations"),
        ] {
            let error = read(list).unwrap_err();
            assert!(error.contains(part), "{list}: {error}");
        }
    }
}
