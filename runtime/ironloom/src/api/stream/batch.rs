//! Lines of a stream that become one record.

use std::sync::Arc;

use super::inbox::Gathered;
use super::word::Mark;
use crate::api::Api;
use crate::api::facade::{Detail, Progress};
use crate::api::intake::{BadLines, Mode, Parsed};
use crate::api::problem::Problem;
use crate::api::push::{READ_ASIDE, no_clock, refusal};
use crate::api::readings::{Form, parse};
use crate::aside::aside_if;
use ironloom_types::ids::TenantId;
use ironloom_types::readings::{Columns, NewPoint};

/// The readings of some lines.
pub(super) struct Batch {
    pub columns: Columns,
    pub new_points: Vec<NewPoint>,
    /// The progress of the stream with them.
    pub through: Progress,
    /// Bad lines, by their number in the stream.
    pub bad: Vec<Detail>,
    /// All of them, by kind.
    pub bad_lines: BadLines,
    /// The bytes that the lines had.
    pub bytes: usize,
}

impl Batch {
    /// Reads the lines that follow. Without `partial` those before a bad line are the batch, and the problem says which one
    /// that is.
    pub(super) async fn read(
        api: &Api,
        tenant: TenantId,
        mode: Mode,
        before: Progress,
        gathered: Gathered,
    ) -> Result<(Option<Self>, Option<Problem>), Problem> {
        let Gathered { lines, bytes } = gathered;
        if lines.is_empty() {
            return Ok((None, None));
        }
        let node = Arc::clone(&api.node);
        let is_long = lines.len() > READ_ASIDE;
        let work = move || {
            let parsed = parse(&lines, Form::Lines, node.ingest_rules(tenant), || node.lookup(tenant), mode);
            (parsed, lines)
        };
        let read = aside_if(is_long, work).await;
        let (parsed, lines) =
            read.map_err(|error| Problem::internal(format!("the lines could not be read: {error}")))?;
        let bad_lines = if mode.partial { parsed.bad_by_kind() } else { BadLines::new() };
        let Parsed { columns, new_points, mut bad, needs_clock, lines: not_empty, .. } = parsed;
        if needs_clock {
            return Err(no_clock(api.node.clock().source));
        }
        let first_bad = bad.first().and_then(|bad| bad.place.as_ref()?.line);
        for line in bad.iter_mut().filter_map(|bad| bad.place.as_mut()?.line.as_mut()) {
            *line += before.lines;
        }
        let taken = columns.len() as u64;
        let (mut good, mut refused, mut problem) = (&lines[..], not_empty - taken, None);
        if let Some(line) = first_bad.filter(|_| !mode.partial) {
            (good, refused) = (&lines[..end_of(&lines, line - 1)], 0);
            problem = Some(refused_from(before.lines + line, std::mem::take(&mut bad)));
        }
        if good.is_empty() {
            return Ok((None, problem));
        }
        let through = Progress {
            lines: before.lines + count(good),
            taken: before.taken + taken,
            refused: before.refused + refused,
            mark: Mark::of_bytes(before.mark).with(good).to_bytes(),
        };
        Ok((Some(Self { columns, new_points, through, bad, bad_lines, bytes }), problem))
    }

    pub(super) fn has_new_points(&self) -> bool {
        !self.new_points.is_empty()
    }
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|byte| **byte == b'\n').count() as u64
}

/// The place at which this many lines end.
fn end_of(text: &[u8], lines: u64) -> usize {
    let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    ends.take(lines as usize).last().unwrap_or(0)
}

fn refused_from(line: u64, bad: Vec<Detail>) -> Problem {
    let mut problem = refusal(bad);
    if let Some(first) = problem.errors.first().filter(|_| line > 1) {
        problem.detail = format!("nothing from line {line} on was accepted; {}", first.detail);
    }
    problem
}
