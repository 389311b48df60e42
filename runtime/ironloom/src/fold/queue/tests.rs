//! Queues: what waits, and what is left to the journal.

use proptest::prelude::*;

use super::*;
use ironloom_types::ids::{Generation, PointNumber, TenantId};
use ironloom_types::readings::{Columns, Quality, ValueRef};

fn chunk(first: u64, rows: u64, time: u64) -> Arc<Chunk> {
    let mut columns = Columns::default();
    for row in 0..rows {
        columns.push(PointNumber(0), Timestamp(row), Quality::Good, ValueRef::Real(1.0));
    }
    Arc::new(Chunk::of_record(TenantId::MAIN, Sequence(first), Timestamp(time), 0, Generation(0), columns))
}

fn queue() -> Queue {
    Queue::after(Sequence(0), &Arc::default())
}

fn notes(rows: &[u32]) -> Vec<RowNote> {
    rows.iter().map(|&row| RowNote { row, offset: row, entity: 0, input: 0 }).collect()
}

fn sequences(slices: &[Slice]) -> Vec<u64> {
    slices.iter().flat_map(|slice| slice.rows().iter().map(|row| slice.note.sequence_of(row).0)).collect()
}

#[test]
fn rows_come_in_order_and_only_once() {
    let mut queue = queue();
    queue.note(&chunk(1, 5, 10), &notes(&[0, 2, 4]));
    queue.note(&chunk(6, 5, 20), &notes(&[1, 3]));
    assert_eq!(sequences(&queue.first(4, 1000, None, None)), [1, 3, 5, 7]);
    assert_eq!(sequences(&queue.first(9, 1000, Some(Timestamp(20)), None)), [1, 3, 5]);
    assert_eq!(queue.pending(), Some(Sequence(1)));
    queue.advance(Sequence(3));
    assert_eq!(queue.pending(), Some(Sequence(5)));
    queue.advance(Sequence(5));
    assert_eq!(queue.head_time(), Some(Timestamp(20)));
    assert_eq!(sequences(&queue.first(9, 1000, None, None)), [7, 9]);
    queue.advance(Sequence(10));
    assert_eq!((queue.pending(), queue.noted()), (None, 0));
}

#[test]
fn a_lane_that_fell_behind_catches_up_without_loss_or_repetition() {
    let mut queue = Queue::behind(Sequence(0), &Arc::default());
    // The fold routes 1..=5 and then 6..=10; the lane reads the journal meanwhile.
    let (first, second) = (chunk(1, 5, 10), chunk(6, 5, 20));
    queue.note(&first, &notes(&[0]));
    assert_eq!(queue.wants(), Some(Sequence(1)));
    queue.caught_up(Sequence(1), Some(&first), &notes(&[0]), Sequence(10));
    assert_eq!(queue.wants(), Some(Sequence(6)));
    queue.caught_up(Sequence(6), Some(&second), &notes(&[1]), Sequence(10));
    assert_eq!(queue.wants(), None);
    // The fold had counted the second as routed, and notes it only now.
    queue.note(&second, &notes(&[1]));
    queue.note(&chunk(11, 1, 30), &notes(&[0]));
    assert_eq!(sequences(&queue.first(99, 1000, None, None)), [1, 7, 11]);
}

#[test]
fn past_the_bound_only_the_place_is_kept() {
    let mut queue = Queue::after(Sequence(0), &Arc::new(NoteBudget::new(usize::MAX)));
    let rows: Vec<u32> = (0..1024).collect();
    for n in 0..(MOST_ROWS as u64 / 1024 + 3) {
        queue.note(&chunk(1 + n * 1024, 1024, n), &notes(&rows));
    }
    assert_eq!(queue.noted(), MOST_ROWS);
    assert!(queue.is_behind());
    assert_eq!(queue.wants(), None, "there is no room yet");
    queue.advance(Sequence(MOST_ROWS as u64));
    assert_eq!(queue.wants(), Some(Sequence(MOST_ROWS as u64 + 1)));
    assert_eq!(queue.pending(), queue.wants());
}

#[test]
fn a_reading_that_two_inputs_take_is_not_split() {
    let mut queue = queue();
    let twice = |row| [0, 1].map(|input| RowNote { row, offset: row, entity: 0, input });
    let rows: Vec<RowNote> = (0..3).flat_map(twice).collect();
    queue.note(&chunk(1, 3, 10), &rows);
    assert_eq!(sequences(&queue.first(1, 1000, None, None)), [1, 1]);
    assert_eq!(sequences(&queue.first(3, 1000, None, None)), [1, 1, 2, 2]);
    queue.advance(Sequence(1));
    assert_eq!(sequences(&queue.first(9, 1000, None, None)), [2, 2, 3, 3]);
}

#[test]
fn few_rows_of_a_large_record_are_copied_and_keep_their_places() {
    let mut queue = queue();
    let large = chunk(101, 4_096, 10);
    queue.note(&large, &notes(&[7, 4_000]));
    assert_eq!(Arc::strong_count(&large), 1, "the record itself is not kept");
    assert!(queue.bytes < large.columns.bytes() / 100);
    let slices = queue.first(9, 1000, None, None);
    assert_eq!(sequences(&slices), [108, 4_101]);
    let note = &slices[0].note;
    let at: Vec<u64> = note.rows.iter().map(|row| note.chunk.columns.at[row.row as usize].0).collect();
    assert_eq!((at, note.time(1)), (vec![7, 4_000], Timestamp(10)));
    queue.advance(Sequence(108));
    assert_eq!(queue.pending(), Some(Sequence(4_101)));
}

#[test]
fn a_lane_that_is_stopped_forgets_its_notes_and_reads_them_again() {
    let mut queue = queue();
    let (first, second) = (chunk(1, 5, 10), chunk(6, 5, 20));
    queue.note(&first, &notes(&[0, 2]));
    queue.advance(Sequence(1));
    queue.forget_notes();
    assert_eq!((queue.noted(), queue.pending()), (0, Some(Sequence(3))));
    queue.note(&second, &notes(&[1]));
    assert_eq!(queue.wants(), Some(Sequence(3)));
    queue.caught_up(Sequence(3), Some(&first), &notes(&[2]), Sequence(10));
    // It forgets again while it reads on: what comes back is from too far ahead.
    queue.forget_notes();
    queue.caught_up(Sequence(6), Some(&second), &notes(&[1]), Sequence(10));
    assert_eq!(queue.wants(), Some(Sequence(3)));
    queue.caught_up(Sequence(3), Some(&first), &notes(&[2]), Sequence(10));
    queue.caught_up(Sequence(6), Some(&second), &notes(&[1]), Sequence(10));
    assert_eq!(sequences(&queue.first(9, 1000, None, None)), [3, 7]);
}

#[test]
fn all_lanes_share_one_budget_and_each_gets_on() {
    let budget = Arc::new(NoteBudget::new(10_000));
    let mut queues: Vec<Queue> = (0..8).map(|_| Queue::after(Sequence(0), &budget)).collect();
    let all: Vec<u32> = (0..100).collect();
    let chunks: Vec<_> = (0..4).map(|n| chunk(1 + n * 100, 100, n)).collect();
    let most = chunks[0].columns.bytes() + 100 * size_of::<RowNote>() + 100;
    for chunk in &chunks {
        queues.iter_mut().for_each(|queue| queue.note(chunk, &notes(&all)));
        assert!(budget.used.load(Ordering::Relaxed) <= 10_000 + most);
    }
    for queue in &mut queues {
        let mut seen = 0;
        while seen < 400 {
            while let Some(from) = queue.wants() {
                let at = (from.0 as usize - 1) / 100;
                queue.caught_up(from, chunks.get(at), &notes(&all), Sequence(400));
            }
            let offered = sequences(&queue.first(64, 1000, None, None));
            assert_eq!(offered[0], seen + 1);
            seen = offered[offered.len() - 1];
            queue.advance(Sequence(seen));
        }
    }
    drop(queues);
    assert_eq!(budget.used.load(Ordering::Relaxed), 0, "what went was given back");
}

/// What happens to a queue.
#[derive(Clone, Debug)]
enum Step {
    /// The fold puts a record with these rows into the journal; `mine` are the lane's.
    Record { mine: Vec<bool> },
    /// The fold notes what it has routed so far.
    Note,
    /// The lane reads the journal, where it is behind.
    Read,
    /// The lane's commit deals with the first rows.
    Commit { rows: usize },
    /// The lane is stopped.
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(any::<bool>(), 1..9).prop_map(|mine| Step::Record { mine }),
        4 => Just(Step::Note),
        4 => Just(Step::Read),
        4 => (1..9usize).prop_map(|rows| Step::Commit { rows }),
        1 => Just(Step::Forget),
    ]
}

/// A queue beside the list of all rows that are the lane's.
struct Model {
    journal: Vec<(Arc<Chunk>, Vec<RowNote>)>,
    noted: usize,
    last: u64,
    done: u64,
}

impl Model {
    fn record(&mut self, mine: &[bool]) {
        let chunk = chunk(self.last + 1, mine.len() as u64, 1);
        let rows: Vec<u32> = (0..mine.len() as u32).filter(|row| mine[*row as usize]).collect();
        self.journal.push((chunk, notes(&rows)));
        self.last += mine.len() as u64;
    }

    fn note(&mut self, queue: &mut Queue) {
        for (chunk, rows) in &self.journal[self.noted..] {
            queue.note(chunk, rows);
        }
        self.noted = self.journal.len();
    }

    fn read(&self, queue: &mut Queue) -> bool {
        let Some(from) = queue.wants() else { return false };
        let found = self.journal.iter().find(|(chunk, _)| chunk.next_sequence() > from);
        let rows = found.map_or(&[][..], |(_, rows)| rows);
        queue.caught_up(from, found.map(|(chunk, _)| chunk), rows, Sequence(self.last));
        true
    }

    /// The sequences that wait, in order.
    fn waiting(&self) -> Vec<u64> {
        let all = self
            .journal
            .iter()
            .flat_map(|(chunk, rows)| rows.iter().map(|row| chunk.sequence(row.offset as usize).0));
        all.filter(|sequence| *sequence > self.done).collect()
    }
}

proptest! {
    /// A queue that is noted, falls behind, forgets, catches up and is worked off, against the list of all rows.
    #[test]
    fn whatever_happens_each_row_is_offered_once_and_in_order(
        steps in prop::collection::vec(step(), 1..80),
        begins_behind: bool,
    ) {
        let mut queue = if begins_behind { Queue::behind(Sequence(0), &Arc::default()) } else { queue() };
        let mut model = Model { journal: Vec::new(), noted: 0, last: 0, done: 0 };
        for step in steps {
            match step {
                Step::Record { mine } => model.record(&mine),
                Step::Note => model.note(&mut queue),
                Step::Read => {
                    model.read(&mut queue);
                }
                Step::Commit { rows } => {
                    let offered = sequences(&queue.first(rows, usize::MAX, None, None));
                    let waiting = model.waiting();
                    prop_assert_eq!(&offered[..], &waiting[..offered.len()]);
                    let pending = queue.pending().map(|pending| pending.0);
                    prop_assert!(pending.is_none_or(|pending| waiting.first().is_none_or(|first| pending <= *first)));
                    model.done = offered.last().copied().unwrap_or(model.done);
                    queue.advance(Sequence(model.done));
                }
                Step::Forget => queue.forget_notes(),
            }
        }
        model.note(&mut queue);
        while model.read(&mut queue) {}
        prop_assert_eq!(sequences(&queue.first(usize::MAX, usize::MAX, None, None)), model.waiting());
    }
}

#[test]
fn an_offer_has_at_most_so_many_bytes_of_texts_but_at_least_one_row() {
    let text = "x".repeat(100);
    let mut queue = queue();
    for round in 0..3 {
        let mut columns = Columns::default();
        for row in 0..4 {
            columns.push(PointNumber(0), Timestamp(row), Quality::Good, ValueRef::Text(&text));
        }
        let first = Sequence(1 + round * 4);
        let chunk =
            Arc::new(Chunk::of_record(TenantId::MAIN, first, Timestamp(1), 0, Generation(0), columns));
        // The second is another lane's.
        queue.note(&chunk, &notes(&[0, 2, 3]));
    }
    let rows = |most, bytes| sequences(&queue.first(most, bytes, None, None)).len();
    assert_eq!(rows(99, 10), 1);
    assert_eq!(rows(99, 100), 1);
    assert_eq!(rows(99, 299), 2);
    assert_eq!(rows(99, 300), 3);
    assert_eq!(rows(99, 500), 5);
    assert_eq!(rows(4, 10_000), 4);
    assert_eq!(rows(99, 10_000), 9);
}
