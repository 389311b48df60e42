//! A point as people see it: what it is, who writes it and who reads it; and what they do with points.

mod rename;
mod retire;

use std::sync::Arc;

pub(super) use self::retire::MOST_RETIRING;
use super::{Node, found_aside};
use crate::api::facade::{
    Answer, LatestReading, Place, PointDetail, PointReader, PointRequest, PointWriter, Problem,
};
use crate::records::admin::{AdminRecord, PointSet};
use ironloom_apps::unit;
use ironloom_types::ids::{Generation, PointNumber, PointPath, Sequence, TenantId};

/// The longest description of a point, in bytes. Beyond: refused.
const MAX_DESCRIPTION: usize = 256;
/// Writers and readers of a point that are named.
const MAX_NAMED: usize = 100;

impl Node {
    /// A point with all that is known of it.
    pub(super) fn show_point(&self, path: &PointPath) -> Answer<PointDetail> {
        let number = self.point_or_404(path)?;
        let (latest, origin) = match self.point_item(number) {
            None => (None, None),
            Some(item) => {
                let origin = self.origin_of(path.tenant(), item.sequence);
                let (value, at, quality, sequence) = (item.value, item.at, item.quality, item.sequence);
                (Some(LatestReading { value, at, quality, sequence }), origin)
            }
        };
        let (unit, description, earlier) = {
            let names = self.shared.points.names();
            let point = names.point(number).ok_or_else(|| no_such_point(path))?;
            let earlier = names.retired().filter(|(_, retired)| *retired == path).count() as u64;
            (point.unit.clone(), names.description(number).cloned(), earlier)
        };
        let (written_by, writers) = self.writers(path);
        let (read_by, readers) = self.readers(number);
        let derived_by = origin.and_then(|origin| self.shared.lanes.of_generation(origin));
        let derived_by = derived_by.map(|lane| lane.id.clone());
        let point = path.to_arc();
        Ok(PointDetail {
            point,
            unit,
            description,
            latest,
            derived_by,
            written_by,
            writers,
            read_by,
            readers,
            earlier,
        })
    }

    fn point_or_404(&self, path: &PointPath) -> Answer<PointNumber> {
        let number = self.shared.points.names().number(path);
        number.ok_or_else(|| no_such_point(path))
    }

    /// The generation that derived a reading.
    fn origin_of(&self, tenant: TenantId, sequence: Sequence) -> Option<Generation> {
        let chunk = self.shared.journal.of(tenant).chunk_from(sequence).ok()??;
        let row = (0..chunk.len()).find(|row| chunk.sequence(*row) == sequence)?;
        Some(chunk.run(row).origin).filter(|origin| *origin != Generation(0))
    }

    /// Those that may write a point by what they are bound to, the first of them, and how many there are.
    fn writers(&self, path: &PointPath) -> (Vec<PointWriter>, u64) {
        let mut all = Vec::new();
        for (name, connector) in &**self.wanted.load() {
            if connector.config.as_ref().is_ok_and(|config| config.may_write(path)) {
                all.push(PointWriter { connector: Some(name.clone()), installation: None, output: None });
            }
        }
        let mut count = all.len() as u64;
        for lane in self.lanes.all() {
            let newest = lane.newest();
            for output in newest.revision.bindings.outputs.iter().filter(|output| output.target.writes(path))
            {
                count += 1;
                if all.len() < MAX_NAMED {
                    let (installation, output) = (Some(lane.id.clone()), Some(output.name.clone()));
                    all.push(PointWriter { connector: None, installation, output });
                }
            }
        }
        all.sort();
        (all, count)
    }

    /// Those whose inputs a point's readings go to.
    fn readers(&self, number: PointNumber) -> (Vec<PointReader>, u64) {
        let found: Vec<_> = self.shared.routing.read().matches(number).to_vec();
        let mut all: Vec<_> = found
            .iter()
            .filter_map(|found| {
                let lane = self.shared.lanes.get(found.lane())?;
                let newest = lane.newest();
                // What an older revision takes is on its way out.
                let input = newest.revision.bindings.inputs.get(usize::from(found.input()));
                let input = input.filter(|_| newest.route == found.lane())?.name.clone();
                Some(PointReader { installation: lane.id.clone(), input })
            })
            .collect();
        all.sort();
        let count = all.len() as u64;
        all.truncate(MAX_NAMED);
        (all, count)
    }

    /// Takes over what somebody says of a point.
    pub(super) async fn set_point(
        self: Arc<Self>,
        path: PointPath,
        request: PointRequest,
    ) -> Answer<PointDetail> {
        let number = self.point_or_404(&path)?;
        check_request(&path, &request)?;
        {
            // Two that say something of it at the same time both count.
            let _next = self.admin.saying.lock().await;
            let _alone = self.admin.points.lock().await;
            let (unit, description) = {
                let names = self.shared.points.names();
                let point = names.point(number).ok_or_else(|| no_such_point(&path))?;
                (point.unit.clone(), names.description(number).cloned())
            };
            let unit = request.unit.map_or(unit, |unit| unit.map(Arc::from));
            let description = match request.description {
                Some(description) => description.map(String::into_boxed_str),
                None => description.map(|text| Box::from(&*text)),
            };
            let set = PointSet { number, unit, description };
            self.change(AdminRecord::PointSet(Box::new(set))).await?;
        }
        let node = Arc::clone(&self);
        found_aside(move || node.show_point(&path)).await
    }
}

fn check_request(path: &PointPath, request: &PointRequest) -> Answer<()> {
    let field = |field: &str, why: String| Err(Problem::malformed("bad-field", why).at(Place::field(field)));
    if let Some(unit) = &request.unit {
        if path.is_reserved() {
            let detail = format!("{path} belongs to the output of an app, whose manifest says its unit");
            return Err(Problem::forbidden("reserved-point", detail).at(Place::field("unit")));
        }
        if let Some(Err(why)) = unit.as_deref().map(unit::check) {
            return field("unit", why);
        }
    }
    if let Some(Some(description)) = &request.description {
        if description.len() > MAX_DESCRIPTION {
            let bytes = description.len();
            let why =
                format!("a description may have at most {MAX_DESCRIPTION} bytes, and this one has {bytes}");
            return field("description", why);
        }
        if description.is_empty() {
            return field("description", "an empty description says nothing; null takes it away".to_owned());
        }
    }
    if request.unit.is_none() && request.description.is_none() {
        return Err(Problem::malformed("bad-field", "name `unit` or `description`: nothing else is changed"));
    }
    Ok(())
}

fn no_such_point(path: &PointPath) -> Problem {
    Problem::not_found(format!("there is no point {path}")).hint("`ironloom points --prefix …` lists them.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cant_be_said_of_a_point_is_refused() {
        let path = |text: &str| PointPath::new(TenantId::MAIN, text).unwrap();
        let kind = |at: &str, request: PointRequest| {
            check_request(&path(at), &request).err().map(|problem| problem.kind.clone())
        };
        let unit = |unit: &str| PointRequest { unit: Some(Some(unit.into())), ..PointRequest::default() };
        let about = |text: String| PointRequest { description: Some(Some(text)), ..PointRequest::default() };
        assert_eq!(kind("a", unit("kg")), None);
        assert_eq!(kind("a", PointRequest { unit: Some(None), ..PointRequest::default() }), None);
        assert_eq!(kind("a", unit("kWh")).as_deref(), Some("bad-field"));
        assert_eq!(kind("apps/pigs/gain", unit("kg")).as_deref(), Some("reserved-point"));
        assert_eq!(kind("apps/pigs/gain", about("Gain".into())), None);
        assert_eq!(kind("a", about("x".repeat(256))), None);
        assert_eq!(kind("a", about("x".repeat(257))).as_deref(), Some("bad-field"));
        assert_eq!(kind("a", about(String::new())).as_deref(), Some("bad-field"));
        assert_eq!(kind("a", PointRequest::default()).as_deref(), Some("bad-field"));
    }
}
