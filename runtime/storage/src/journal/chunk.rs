//! Readings of one stream as they are read back, the same from the log's tail and from blocks.

use ironloom_types::clock::Timestamp;
use ironloom_types::ids::{Generation, PointNumber, Sequence, TenantId};
use ironloom_types::readings::{Columns, Quality, Tags, ValueRef};

/// Rows that share what their record gave them: journal time, hop count and origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The row after its last one, counted from the start of the chunk.
    pub end: u32,
    /// The journal time of the readings.
    pub time: Timestamp,
    /// The hops from output to input behind them: 0 for readings from a source.
    pub hops: u8,
    /// The generation of the installation that derived them; 0 for what a source sent.
    pub origin: Generation,
}

/// Readings with consecutive sequence numbers, and what their records say of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Whose they are.
    pub tenant: TenantId,
    /// The sequence of the first row.
    pub first_sequence: Sequence,
    pub columns: Columns,
    /// Covers all rows, in order, with rising `end`.
    pub runs: Vec<Run>,
}

/// One reading of a chunk, borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReadingRow<'a> {
    /// Its place in the stream.
    pub sequence: Sequence,
    /// Its journal time.
    pub time: Timestamp,
    pub hops: u8,
    pub origin: Generation,
    pub point: PointNumber,
    /// The time at its source.
    pub at: Timestamp,
    pub quality: Quality,
    pub value: ValueRef<'a>,
}

impl<'a> ReadingRow<'a> {
    /// A row of these columns, with its place in the stream and what its record gave it.
    pub(super) fn of(columns: &'a Columns, row: usize, sequence: Sequence, run: &Run) -> Self {
        Self {
            sequence,
            time: run.time,
            hops: run.hops,
            origin: run.origin,
            point: columns.points[row],
            at: columns.at[row],
            quality: columns.quality(row),
            value: columns.value(row),
        }
    }
}

impl Chunk {
    /// No readings yet; the first one will have this sequence.
    pub fn empty(tenant: TenantId, first_sequence: Sequence) -> Self {
        Self { tenant, first_sequence, columns: Columns::default(), runs: Vec::new() }
    }

    /// The readings of one record of the log.
    pub fn of_record(
        tenant: TenantId,
        first_sequence: Sequence,
        time: Timestamp,
        hops: u8,
        origin: Generation,
        columns: Columns,
    ) -> Self {
        let end = row_number(columns.len());
        let runs = if end == 0 { Vec::new() } else { vec![Run { end, time, hops, origin }] };
        Self { tenant, first_sequence, columns, runs }
    }

    /// The number of readings.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Says if there are none.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The sequence after the last row's.
    pub fn next_sequence(&self) -> Sequence {
        Sequence(self.first_sequence.0 + self.len() as u64)
    }

    /// The last row's sequence; the one before the first row's where there are none.
    pub fn last_sequence(&self) -> Sequence {
        Sequence(self.next_sequence().0 - 1)
    }

    /// The sequence of a row.
    pub fn sequence(&self, row: usize) -> Sequence {
        Sequence(self.first_sequence.0 + row as u64)
    }

    /// The first row whose sequence is above `after`; the number of rows where there is none.
    pub fn row_after(&self, after: Sequence) -> usize {
        let rows = after.next().0.saturating_sub(self.first_sequence.0);
        usize::try_from(rows).unwrap_or(usize::MAX).min(self.len())
    }

    /// The record-wide facts about a row.
    pub fn run(&self, row: usize) -> &Run {
        let index = self.runs.partition_point(|run| run.end as usize <= row);
        &self.runs[index]
    }

    /// The journal time of a row.
    pub fn time(&self, row: usize) -> Timestamp {
        self.run(row).time
    }

    pub fn row(&self, row: usize) -> ReadingRow<'_> {
        self.row_of_run(row, self.run(row))
    }

    fn row_of_run(&self, row: usize, run: &Run) -> ReadingRow<'_> {
        ReadingRow::of(&self.columns, row, self.sequence(row), run)
    }

    /// Adds rows `from..to` of a record's columns, all of one run.
    pub(super) fn extend(&mut self, columns: &Columns, from: usize, to: usize, run: Run) {
        if from == to {
            return;
        }
        let mine = &mut self.columns;
        let plain = match (&mine.tags, &columns.tags) {
            (Tags::Same(mine_tag), Tags::Same(tag)) => (mine.is_empty() || mine_tag == tag) && !tag.in_heap(),
            _ => false,
        };
        if plain && mine.quality.is_none() && columns.quality.is_none() {
            mine.tags = columns.tags.clone();
            mine.points.extend_from_slice(&columns.points[from..to]);
            mine.at.extend_from_slice(&columns.at[from..to]);
            mine.words.extend_from_slice(&columns.words[from..to]);
        } else {
            for row in from..to {
                mine.push_row(columns, row);
            }
        }
        let end = row_number(self.columns.len());
        match self.runs.last_mut() {
            Some(last) if (last.time, last.hops, last.origin) == (run.time, run.hops, run.origin) => {
                last.end = end;
            }
            _ => self.runs.push(Run { end, ..run }),
        }
    }

    /// Says if the columns are sound and the runs cover all rows in order, with time never going
    /// back: asserted where blocks are written, checked where they are read.
    pub fn is_sound(&self) -> bool {
        let rising =
            self.runs.windows(2).all(|pair| pair[0].end < pair[1].end && pair[0].time <= pair[1].time);
        let covered = self.runs.last().map_or(0, |run| run.end as usize) == self.len();
        rising && covered && self.runs.first().is_none_or(|run| run.end > 0) && self.columns.is_sound()
    }
}

fn row_number(rows: usize) -> u32 {
    // One record is bounded by the request's limit and one block by its own, both far below.
    assert!(u32::try_from(rows).is_ok(), "a chunk has fewer than 2^32 rows");
    rows as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(values: &[f64]) -> Columns {
        let mut columns = Columns::default();
        for (row, &value) in values.iter().enumerate() {
            columns.push(PointNumber(7), Timestamp(100 + row as u64), Quality::Good, ValueRef::Real(value));
        }
        columns
    }

    #[test]
    fn a_row_has_the_sequence_and_time_of_its_record() {
        let mut chunk = Chunk::of_record(
            TenantId::MAIN,
            Sequence(5),
            Timestamp(50),
            0,
            Generation(0),
            columns(&[1.0, 2.0]),
        );
        let derived = Run { end: 0, time: Timestamp(60), hops: 1, origin: Generation(9) };
        chunk.extend(&columns(&[3.0, 4.0, 5.0]), 1, 3, derived);

        assert!(chunk.is_sound());
        assert_eq!((chunk.len(), chunk.next_sequence()), (4, Sequence(9)));
        let seen: Vec<_> = (1..chunk.len())
            .map(|row| chunk.row(row))
            .map(|row| (row.sequence.0, row.time.0, row.hops, row.origin.0, row.value))
            .collect();
        assert_eq!(
            seen,
            [
                (6, 50, 0, 0, ValueRef::Real(2.0)),
                (7, 60, 1, 9, ValueRef::Real(4.0)),
                (8, 60, 1, 9, ValueRef::Real(5.0)),
            ]
        );
        assert_eq!(chunk.time(1), Timestamp(50));
    }

    #[test]
    fn rows_are_found_by_sequence() {
        let chunk =
            Chunk::of_record(TenantId::MAIN, Sequence(5), Timestamp(1), 0, Generation(0), columns(&[0.0; 3]));
        let rows: Vec<usize> =
            [0, 4, 5, 7, 99, u64::MAX].map(|after| chunk.row_after(Sequence(after))).into();
        assert_eq!(rows, [0, 0, 1, 3, 3, 3]);
    }

    #[test]
    fn records_of_the_same_time_and_origin_share_a_run() {
        let mut chunk = Chunk::empty(TenantId::MAIN, Sequence(1));
        let run = Run { end: 0, time: Timestamp(3), hops: 0, origin: Generation(0) };
        chunk.extend(&columns(&[1.0]), 0, 1, run);
        chunk.extend(&columns(&[2.0]), 0, 1, run);
        assert_eq!(chunk.runs, [Run { end: 2, ..run }]);
    }

    #[test]
    fn runs_that_leave_out_rows_or_go_back_in_time_are_unsound() {
        let sound = Chunk::of_record(
            TenantId::MAIN,
            Sequence(1),
            Timestamp(9),
            0,
            Generation(0),
            columns(&[1.0, 2.0]),
        );
        let run = sound.runs[0];
        for runs in [
            vec![],
            vec![Run { end: 1, ..run }],
            vec![Run { end: 0, ..run }, run],
            vec![Run { end: 1, ..run }, Run { time: Timestamp(8), ..run }],
        ] {
            assert!(!Chunk { runs, ..sound.clone() }.is_sound());
        }
    }
}
