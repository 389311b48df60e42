//! Points are retired: nobody writes them meanwhile, and all that read them have dealt with their readings.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashSet;
use tokio::sync::SemaphorePermit;

use super::no_such_point;
use crate::api::facade::{Answer, Problem, RETRY_SOON, RetirePoints, RetiredPoints};
use crate::fold::read_aside;
use crate::fold::submission::{Refusal, Submission, WatchSubmission};
use crate::node::{Node, found_aside, problems};
use crate::records::admin::{AdminRecord, PointsRetired};
use ironloom_types::ids::{Generation, InstallationId, PointNumber, PointPath, TenantId};
use ironloom_types::limits::MAX_POINTS;
use ironloom_types::readings::NewPoint;

/// Points of one record: everything stands still meanwhile.
const AT_ONCE: usize = if cfg!(test) { 3 } else { 50_000 };
/// The time within which nobody may write points that are to be retired, and all must have read them.
const TO_RETIRE: Duration = Duration::from_secs(5);
/// Requests at a time that retire or rename points. Beyond: refused.
pub(in crate::node) const MOST_RETIRING: usize = 16;
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

/// The outcome of a try.
enum Tried {
    Done,
    /// Another has everything stand still, or had just before.
    Another,
    InTheWay(Problem),
}

impl Node {
    /// Retires points: nobody may write them meanwhile, and all that read them must have dealt with their readings.
    pub(in crate::node) async fn retire_points(
        self: Arc<Self>,
        which: RetirePoints,
    ) -> Answer<RetiredPoints> {
        // Many points are kept in memory until the end. Of one it is told first that it isn't there.
        let place = which.below.then(|| self.place_to_retire()).transpose()?;
        let chosen = self.chosen(&which).await?;
        if chosen.points.is_empty() && chosen.before.is_empty() {
            return Err(match which.below {
                true => Problem::not_found(format!("there is no point below {}/", which.path)),
                false => no_such_point(&which.path),
            });
        }
        let _place = match place {
            Some(place) => place,
            None => self.place_to_retire()?,
        };
        for (done, part) in chosen.points.chunks(AT_ONCE).enumerate() {
            let retired = self.retire(part, || async {
                if !which.readings {
                    check_kept(self.shared.points.names().retired().len(), part.len())?;
                }
                let numbers = part.iter().map(|(number, _)| *number).collect();
                let made = self.made_by_outputs(part);
                let retired = PointsRetired { numbers, readings: !which.readings, made };
                Ok(AdminRecord::PointsRetired(retired))
            });
            retired.await.map_err(|problem| stopped_after(done * AT_ONCE, problem))?;
        }
        // Last: what is refused for points that are there has taken nothing away.
        let before = self.take_away_retired(&which, &chosen.before).await?;
        Ok(RetiredPoints { points: chosen.points.len() as u64, before, readings: !which.readings })
    }

    /// A place for a retire or a rename, which may wait for seconds. 503 where there is none.
    pub(super) fn place_to_retire(&self) -> Answer<SemaphorePermit<'_>> {
        self.admin.retiring.try_acquire().map_err(|_| {
            let detail = format!("{MOST_RETIRING} requests retire or rename points already");
            Problem::unavailable("busy", detail, RETRY_SOON)
        })
    }

    /// Takes the readings of points away that were retired before. Returns how many of them were still there.
    async fn take_away_retired(
        self: &Arc<Self>,
        which: &RetirePoints,
        numbers: &[PointNumber],
    ) -> Answer<u64> {
        let mut taken = 0;
        for part in numbers.chunks(AT_ONCE) {
            let _next = self.admin.saying.lock().await;
            let _alone = self.admin.points.lock().await;
            let (node, which) = (Arc::clone(self), which.clone());
            let part: HashSet<PointNumber> = part.iter().copied().collect();
            let left = found_aside(move || {
                let names = node.shared.points.names();
                // Others may have taken some away meanwhile, or renamed them.
                let left =
                    names.retired().filter(|(number, path)| part.contains(number) && is_meant(&which, path));
                Ok(left.map(|(number, _)| number).collect::<Vec<_>>())
            });
            let numbers = left.await?;
            taken += numbers.len() as u64;
            if !numbers.is_empty() {
                let record = PointsRetired { numbers, readings: false, made: Vec::new() };
                self.change(AdminRecord::PointsRetired(record)).await?;
            }
        }
        Ok(taken)
    }

    async fn chosen(self: &Arc<Self>, which: &RetirePoints) -> Answer<Chosen> {
        let (node, which) = (Arc::clone(self), which.clone());
        found_aside(move || node.choose(&which)).await
    }

    fn choose(&self, which: &RetirePoints) -> Answer<Chosen> {
        let RetirePoints { path, below, readings } = which;
        let prefix = format!("{path}/");
        let all = &self.shared.points;
        let mut numbers: Vec<PointNumber> = match below {
            true => self
                .paths
                .page(all, path.tenant(), &prefix, None, usize::MAX)
                .into_iter()
                .map(|(_, at)| at)
                .collect(),
            false => all.names().number(path).into_iter().collect(),
        };
        numbers.sort_unstable();
        let mut points = Vec::with_capacity(numbers.len());
        all.each_of(&numbers, |number, point| points.push((number, point.clone())));
        let names = all.names();
        if !readings {
            check_kept(names.retired().len(), points.len())?;
            return Ok(Chosen { points, before: Vec::new() });
        }
        let before = names.retired().filter(|(_, path)| is_meant(which, path));
        let before = before.map(|(number, _)| number).collect();
        Ok(Chosen { points, before })
    }

    /// Retires these points by one record, which `record` makes once nobody writes or reads them. Between two tries others
    /// may retire, rename or describe points: each try looks anew, and `record` checks again what was checked before.
    pub(super) async fn retire<F>(
        self: &Arc<Self>,
        points: &[(PointNumber, NewPoint)],
        record: impl Fn() -> F + Send + Sync,
    ) -> Answer<()>
    where
        F: Future<Output = Answer<AdminRecord>> + Send,
    {
        let (began, mut tried) = (Instant::now(), 0);
        let numbers: Vec<PointNumber> = points.iter().map(|(number, _)| *number).collect();
        let tenant = points.first().map_or(TenantId::NOBODY, |(_, point)| point.path.tenant());
        loop {
            self.as_they_are(points)?;
            // Both are looked at before everything stands still: whoever has yet to read them can go on, and nobody stands
            // still for points that are just written.
            let in_the_way = match self.reader_of_points(&numbers).await? {
                Some(problem) => Some(problem),
                None => self.is_written(tenant, &numbers).await?.then(|| in_use(points)),
            };
            let problem = match in_the_way {
                Some(problem) => problem,
                None => match self.try_to_retire(points, &numbers, &record).await? {
                    Tried::Done => return Ok(()),
                    Tried::Another => another(),
                    Tried::InTheWay(problem) => {
                        tried += 1;
                        problem
                    }
                },
            };
            if began.elapsed() >= TO_RETIRE || tried >= TRIES {
                return Err(problem);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// These points as they are now. 404 where one of them was retired or renamed since.
    fn as_they_are(&self, points: &[(PointNumber, NewPoint)]) -> Answer<Vec<(PointNumber, NewPoint)>> {
        let names = self.shared.points.names();
        let now = points.iter().map(|(number, before)| {
            let point = names.point(*number).ok_or_else(|| no_such_point(&before.path))?;
            Ok((*number, point.clone()))
        });
        now.collect()
    }

    /// Says whether a reading of these points comes within one look.
    async fn is_written(self: &Arc<Self>, tenant: TenantId, numbers: &[PointNumber]) -> Answer<bool> {
        let (since, all) = (self.shared.journal.of(tenant).last(), numbers.to_vec());
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

    /// Retires these points if nobody waits for their readings and none comes; else says what is in the way. Everything
    /// stands still for this try only.
    async fn try_to_retire<F>(
        self: &Arc<Self>,
        points: &[(PointNumber, NewPoint)],
        numbers: &[PointNumber],
        record: &(impl Fn() -> F + Send + Sync),
    ) -> Answer<Tried>
    where
        F: Future<Output = Answer<AdminRecord>> + Send,
    {
        let Some(_stands_still) = self.stand_still_between().await? else { return Ok(Tried::Another) };
        let _alone = self.admin.points.lock().await;
        let tried: Answer<Tried> = async {
            let as_they_are = self.as_they_are(points)?;
            self.watch_points(numbers.iter().copied().collect()).await?;
            if let Some(problem) = self.reader_of_points(numbers).await? {
                return Ok(Tried::InTheWay(problem));
            }
            let record = record().await?;
            let retire = || self.hand_in(record);
            let handed_in = self.shared.retired.retire(as_they_are, retire)?;
            match handed_in.done().await {
                Ok(()) => {
                    // Nothing runs: no invocation has a number that is gone.
                    self.lanes.all().iter().for_each(|lane| lane.forget_targets());
                    Ok(Tried::Done)
                }
                Err(Refusal::PointsInUse) => {
                    self.shared.retired.forget(numbers);
                    Ok(Tried::InTheWay(in_use(points)))
                }
                Err(refusal) => {
                    self.shared.retired.forget(numbers);
                    Err(problems::change_refused(&refusal))
                }
            }
        }
        .await;
        if !matches!(tried, Ok(Tried::Done)) {
            // Before the next one has its own points watched.
            self.watch_points(HashSet::new()).await?;
        }
        tried
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
        let mut gone: BTreeMap<(TenantId, &str), u64> = BTreeMap::new();
        for (_, point) in points.iter().filter(|(_, point)| point.path.is_reserved()) {
            let own = point.path.as_str().split('/').nth(1);
            own.into_iter().for_each(|id| *gone.entry((point.path.tenant(), id)).or_default() += 1);
        }
        let made = gone.into_iter().filter_map(|((tenant, id), gone)| {
            let lane = self.lanes.of(&InstallationId::new(tenant, id).ok()?)?;
            let made = lane.book().meta().points;
            Some((lane.generation, made.saturating_sub(gone)))
        });
        made.collect()
    }
}

/// The problem of a part, where others before it are done.
fn stopped_after(points: usize, problem: Problem) -> Problem {
    match points {
        0 => problem,
        points => {
            problem.hint(format!("{points} points were retired before; the same request again goes on."))
        }
    }
}

/// Says whether a path is one of those that are asked for.
fn is_meant(RetirePoints { path, below, .. }: &RetirePoints, found: &PointPath) -> bool {
    match below {
        true => {
            found.tenant() == path.tenant()
                && found.as_str().strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('/'))
        }
        false => found == path,
    }
}

/// Looks if the names of so many more points can be kept for their readings.
pub(super) fn check_kept(kept: usize, more: usize) -> Answer<()> {
    if kept + more <= MAX_POINTS {
        return Ok(());
    }
    let detail = format!(
        "the names of {kept} points are kept for their readings, and with these they would be more than {MAX_POINTS}"
    );
    Err(Problem::conflict("too-many-points", detail)
        .hint("Retire some with their readings: `ironloom points retire PATH --readings`."))
}

/// 409: retiring would take readings away from somebody who has yet to take them.
fn unread(reader: &InstallationId) -> Problem {
    let detail = format!("installation {reader} has not dealt yet with all readings of these points");
    Problem::conflict("unread", detail).hint(format!(
        "Let {reader} go on, resume it with its backlog dropped, or bind it to other points first."
    ))
}

/// 503: for as long as this one may wait there was always another.
fn another() -> Problem {
    let detail = "others have all installations stand still for points of theirs, or to set time";
    Problem::unavailable("busy", detail, RETRY_SOON).hint("Try again in a moment.")
}

/// 409: they are in use.
fn in_use(points: &[(PointNumber, NewPoint)]) -> Problem {
    let first = points.first().map_or_else(String::new, |(_, point)| point.path.to_string());
    let detail = format!("readings of {first}, or of others that were to be retired with it, keep coming");
    Problem::conflict("in-use", detail).hint("Stop their source first: it would make the points anew.")
}
