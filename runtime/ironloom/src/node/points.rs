//! A point as people see it: what it is, who writes it and who reads it; and what they do with points.

mod rename;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashSet;

use super::{Node, found_aside, problems};
use crate::api::facade::{
    Answer, LatestReading, Place, PointDetail, PointReader, PointRequest, PointWriter, Problem, RetirePoints,
    RetiredPoints,
};
use crate::fold::read_aside;
use crate::fold::submission::{Refusal, Submission, WatchSubmission};
use crate::records::admin::{AdminRecord, PointSet, PointsRetired};
use ironloom_apps::unit;
use ironloom_types::ids::{Generation, InstallationId, PointNumber, PointPath, Sequence};
use ironloom_types::limits::MAX_POINTS;
use ironloom_types::readings::NewPoint;

/// The longest description of a point, in bytes. Beyond: refused.
const MAX_DESCRIPTION: usize = 256;
/// Writers and readers of a point that are named.
const MAX_NAMED: usize = 100;
/// Points of one record: everything stands still meanwhile.
const AT_ONCE: usize = if cfg!(test) { 3 } else { 50_000 };
/// The time within which nobody may write points that are to be retired, and all must have read them.
const TO_RETIRE: Duration = Duration::from_secs(5);
/// The most times that everything stands still for it.
const TRIES: usize = 10;
/// The interval at which that is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// Points that are to be retired.
#[derive(Debug, Default)]
struct Chosen {
    /// Those that are there, in the order of their numbers.
    points: Vec<(PointNumber, NewPoint)>,
    /// Those that were retired before with their readings kept.
    before: Vec<PointNumber>,
}

impl Node {
    /// A point with all that is known of it.
    pub(super) fn show_point(&self, path: &PointPath) -> Answer<PointDetail> {
        let number = self.point_or_404(path)?;
        let (latest, origin) = match self.point_item(number) {
            None => (None, None),
            Some(item) => {
                let origin = self.origin_of(item.sequence);
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
        let number = self.shared.points.names().number(path.as_str());
        number.ok_or_else(|| no_such_point(path))
    }

    /// The generation that derived a reading.
    fn origin_of(&self, sequence: Sequence) -> Option<Generation> {
        let chunk = self.shared.journal.chunk_from(sequence).ok()??;
        let row = (0..chunk.len()).find(|row| chunk.sequence(*row) == sequence)?;
        Some(chunk.run(row).origin).filter(|origin| *origin != Generation(0))
    }

    /// Those that may write a point by what they are bound to, the first of them, and how many there are.
    fn writers(&self, path: &PointPath) -> (Vec<PointWriter>, u64) {
        let mut all = Vec::new();
        let config = self.config.load();
        for (name, connector) in &config.connectors {
            if connector.may_write(path) {
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

    /// Retires points: nobody may write them meanwhile, and all that read them must have dealt with their readings.
    pub(super) async fn retire_points(self: Arc<Self>, which: RetirePoints) -> Answer<RetiredPoints> {
        let _alone = self.admin.points.lock().await;
        let (node, asked) = (Arc::clone(&self), which.clone());
        let chosen = found_aside(move || node.choose(&asked)).await?;
        if chosen.points.is_empty() && chosen.before.is_empty() {
            return Err(match which.below {
                true => Problem::not_found(format!("there is no point below {}/", which.path)),
                false => no_such_point(&which.path),
            });
        }
        let retired = RetiredPoints {
            points: chosen.points.len() as u64,
            before: chosen.before.len() as u64,
            readings: !which.readings,
        };
        for part in chosen.points.chunks(AT_ONCE) {
            self.retire(part, || async {
                let numbers = part.iter().map(|(number, _)| *number).collect();
                let made = self.made_by_outputs(part);
                let retired = PointsRetired { numbers, readings: !which.readings, made };
                Ok(AdminRecord::PointsRetired(retired))
            })
            .await?;
        }
        // Last: what is refused for points that are there has taken nothing away.
        for part in chosen.before.chunks(AT_ONCE) {
            let record = PointsRetired { numbers: part.to_vec(), readings: false, made: Vec::new() };
            self.change(AdminRecord::PointsRetired(record)).await?;
        }
        Ok(retired)
    }

    fn choose(&self, which: &RetirePoints) -> Answer<Chosen> {
        let RetirePoints { path, below, readings } = which;
        let prefix = format!("{path}/");
        let all = &self.shared.points;
        let mut numbers: Vec<PointNumber> = match below {
            true => self.paths.page(all, &prefix, None, usize::MAX).into_iter().map(|(_, at)| at).collect(),
            false => all.names().number(path.as_str()).into_iter().collect(),
        };
        numbers.sort_unstable();
        let mut points = Vec::with_capacity(numbers.len());
        all.each_of(&numbers, |number, point| points.push((number, point.clone())));
        let names = all.names();
        if !readings {
            check_kept(names.retired().len(), points.len())?;
            return Ok(Chosen { points, before: Vec::new() });
        }
        let is_meant = |found: &PointPath| match below {
            true => found.as_str().starts_with(&prefix),
            false => found == path,
        };
        let before = names.retired().filter(|(_, path)| is_meant(path)).map(|(number, _)| number).collect();
        Ok(Chosen { points, before })
    }

    /// Retires these points by one record, which `record` makes once nobody writes or reads them.
    async fn retire<F>(
        self: &Arc<Self>,
        points: &[(PointNumber, NewPoint)],
        record: impl Fn() -> F + Send + Sync,
    ) -> Answer<()>
    where
        F: Future<Output = Answer<AdminRecord>> + Send,
    {
        let (began, mut tried) = (Instant::now(), 0);
        let numbers: Vec<PointNumber> = points.iter().map(|(number, _)| *number).collect();
        loop {
            // Both are looked at before everything stands still: whoever has yet to read them can go on, and nobody stands
            // still for points that are just written.
            let in_the_way = match self.reader_of_points(&numbers).await? {
                Some(problem) => Some(problem),
                None => self.is_written(&numbers).await?.then(|| in_use(points)),
            };
            let problem = match in_the_way {
                Some(problem) => problem,
                None => {
                    tried += 1;
                    let outcome = self.try_to_retire(points, &numbers, &record).await;
                    if matches!(outcome, Ok(None)) {
                        return Ok(());
                    }
                    self.watch_points(HashSet::new()).await?;
                    outcome?.unwrap_or_else(|| in_use(points))
                }
            };
            if began.elapsed() >= TO_RETIRE || tried >= TRIES {
                return Err(problem);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Says whether a reading of these points comes within one look.
    async fn is_written(self: &Arc<Self>, numbers: &[PointNumber]) -> Answer<bool> {
        let (since, all) = (self.shared.journal.last(), numbers.to_vec());
        tokio::time::sleep(LOOK).await;
        let written = read_aside(&self.shared, move |shared| {
            let is_new = |number: &PointNumber| {
                shared.points.latest(*number).is_some_and(|(latest, _)| latest.sequence > since)
            };
            Ok::<_, Infallible>(all.iter().any(is_new))
        });
        written.await.map_err(|error| problems::internal(&error))
    }

    /// Says who has yet to deal with readings of these points. One that stands still is an error: nobody waits for it.
    async fn reader_of_points(self: &Arc<Self>, numbers: &[PointNumber]) -> Answer<Option<Problem>> {
        let all = numbers.to_vec();
        let reader =
            read_aside(&self.shared, move |shared| Ok::<_, Infallible>(shared.waits_for_points(&all, None)));
        let Some(reader) = reader.await.map_err(|error| problems::internal(&error))? else { return Ok(None) };
        let problem = unread(&reader.id);
        if reader.is_stopped() { Err(problem) } else { Ok(Some(problem)) }
    }

    /// Retires these points if nobody waits for their readings and none comes; else says what is in the way.
    async fn try_to_retire<F>(
        self: &Arc<Self>,
        points: &[(PointNumber, NewPoint)],
        numbers: &[PointNumber],
        record: &(impl Fn() -> F + Send + Sync),
    ) -> Answer<Option<Problem>>
    where
        F: Future<Output = Answer<AdminRecord>> + Send,
    {
        let stands_still = self.stand_still().await?;
        self.watch_points(numbers.iter().copied().collect()).await?;
        if let Some(problem) = self.reader_of_points(numbers).await? {
            return Ok(Some(problem));
        }
        let record = record().await?;
        let retire = || self.hand_in(record);
        let handed_in = self.shared.retired.retire(points.iter().cloned(), retire)?;
        match handed_in.done().await {
            Ok(()) => {
                // Nothing runs: no invocation has a number that is gone.
                self.lanes.all().iter().for_each(|lane| lane.forget_targets());
                drop(stands_still);
                Ok(None)
            }
            Err(Refusal::PointsInUse) => {
                self.shared.retired.forget(numbers);
                Ok(Some(in_use(points)))
            }
            Err(refusal) => {
                self.shared.retired.forget(numbers);
                Err(problems::change_refused(&refusal))
            }
        }
    }

    /// Has the committer note if readings of these points come from here on; all before it is applied then.
    async fn watch_points(&self, points: HashSet<PointNumber>) -> Answer<()> {
        let (reply, applied) = tokio::sync::oneshot::channel();
        let watch = Submission::Watch(WatchSubmission { points, reply });
        let stopped = || problems::change_refused(&Refusal::UnknownOutcome);
        self.committer.submit(watch, 0).map_err(|_| stopped())?;
        applied.await.map_err(|_| stopped())
    }

    /// The number of points that the outputs of installations have made once these are gone. Where an output is bound to a
    /// pattern, nobody knows who made a point: there it counts further on.
    fn made_by_outputs(&self, points: &[(PointNumber, NewPoint)]) -> Vec<(Generation, u64)> {
        let mut gone: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, point) in points.iter().filter(|(_, point)| point.path.is_reserved()) {
            let own = point.path.as_str().split('/').nth(1);
            own.into_iter().for_each(|id| *gone.entry(id).or_default() += 1);
        }
        let made = gone.into_iter().filter_map(|(id, gone)| {
            let lane = self.lanes.of(&InstallationId::new(id).ok()?)?;
            let made = lane.book().meta().points;
            Some((lane.generation, made.saturating_sub(gone)))
        });
        made.collect()
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

/// Looks if the names of so many more points can be kept for their readings.
fn check_kept(kept: usize, more: usize) -> Answer<()> {
    if kept + more <= MAX_POINTS {
        return Ok(());
    }
    let detail = format!(
        "the names of {kept} points are kept for their readings, and with these they would be more than {MAX_POINTS}"
    );
    Err(Problem::conflict("too-many-points", detail)
        .hint("Retire some with their readings: `ironloom points retire PATH --readings`."))
}

fn no_such_point(path: &PointPath) -> Problem {
    Problem::not_found(format!("there is no point {path}")).hint("`ironloom points --prefix …` lists them.")
}

/// 409: retiring would take readings away from somebody who has yet to take them.
fn unread(reader: &InstallationId) -> Problem {
    let detail = format!("installation {reader} has not dealt yet with all readings of these points");
    Problem::conflict("unread", detail).hint(format!(
        "Let {reader} go on, resume it with its backlog dropped, or bind it to other points first."
    ))
}

/// 409: they are in use.
fn in_use(points: &[(PointNumber, NewPoint)]) -> Problem {
    let first = points.first().map_or_else(String::new, |(_, point)| point.path.to_string());
    let detail = format!("readings of {first}, or of others that were to be retired with it, keep coming");
    Problem::conflict("in-use", detail).hint("Stop their source first: it would make the points anew.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cant_be_said_of_a_point_is_refused() {
        let path = |text: &str| PointPath::new(text).unwrap();
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
