//! Queues: what waits, and what is left to the journal.

use proptest::prelude::*;

use super::*;

proptest! {
    /// A queue that is noted, falls behind, catches up and is worked off, against the list of all rows.
    #[test]
    fn whatever_happens_each_row_is_offered_once_and_in_order(
        steps in prop::collection::vec((0..4u8, 1..9usize, any::<u8>()), 1..80),
        begin in prop::option::of(0..3u64),
    ) {
        // The journal, of which the lane takes every row whose point is even.
        let mut journal: Vec<Arc<Chunk>> = Vec::new();
        let mut queue = begin.map_or_else(Queue::default, |_| Queue::behind(Sequence(0)));
        let (mut last, mut done, mut routed) = (0, 0, 0);
        let mine = |chunk: &Arc<Chunk>, after: u64| -> Vec<RowNote> {
            let rows = chunk.row_after(Sequence(after))..chunk.len();
            rows.filter(|row| chunk.columns.points[*row].0.is_multiple_of(2))
                .map(|row| RowNote { row: row as u32, entity: 0, input: 0 })
                .collect()
        };
        for (kind, count, pick) in steps {
            match kind {
                // The fold puts a record into the journal, and notes it perhaps only later.
                0 | 1 => {
                    let rows: Vec<_> = (0..count).map(|row| ((u32::from(pick) >> (row % 8)) % 2, 0, Quality::Good, ValueRef::Real(1.0))).collect();
                    journal.push(chunk(last + 1, &rows, &[(count as u32, 1, 0)]));
                    last += count as u64;
                    if kind == 1 || pick % 2 == 0 {
                        while routed < journal.len() {
                            let chunk = &journal[routed];
                            queue.note(chunk, &mine(chunk, 0));
                            routed += 1;
                        }
                    }
                }
                2 => {
                    if let Some(from) = queue.wants() {
                        let found = journal.iter().find(|chunk| chunk.next_sequence() > from);
                        let rows = found.map_or(Vec::new(), |chunk| mine(chunk, from.0 - 1));
                        queue.caught_up(found, &rows, Sequence(last));
                    }
                }
                _ => {
                    let slices = queue.first(count, usize::MAX, None);
                    let offered: Vec<u64> = slices.iter().flat_map(|slice| slice.rows().iter().map(|row| slice.note.chunk.sequence(row.row as usize).0)).collect();
                    let all: Vec<u64> = journal.iter().flat_map(|chunk| mine(chunk, 0).into_iter().map(|row| chunk.sequence(row.row as usize).0)).filter(|sequence| *sequence > done).collect();
                    prop_assert_eq!(&offered[..], &all[..offered.len()]);
                    prop_assert!(queue.pending().is_none_or(|pending| all.first().is_none_or(|first| pending.0 <= *first)));
                    queue.advance(offered.len());
                    done = offered.last().copied().unwrap_or(done);
                }
            }
        }
        while routed < journal.len() {
            let chunk = &journal[routed];
            queue.note(chunk, &mine(chunk, 0));
            routed += 1;
        }
        while let Some(from) = queue.wants() {
            let found = journal.iter().find(|chunk| chunk.next_sequence() > from);
            queue.caught_up(found, &found.map_or(Vec::new(), |chunk| mine(chunk, from.0 - 1)), Sequence(last));
        }
        let slices = queue.first(usize::MAX, usize::MAX, None);
        let left: Vec<u64> = slices.iter().flat_map(|slice| slice.rows().iter().map(|row| slice.note.chunk.sequence(row.row as usize).0)).collect();
        let all: Vec<u64> = journal.iter().flat_map(|chunk| mine(chunk, 0).into_iter().map(|row| chunk.sequence(row.row as usize).0)).filter(|sequence| *sequence > done).collect();
        prop_assert_eq!(left, all);
    }
}

#[test]
fn an_offer_has_at_most_so_many_bytes_of_texts_but_at_least_one_row() {
    let (_, table) = lane();
    let text = "x".repeat(100);
    // Texts of the lane, and among them one that is another's.
    let row = |point| (point, 1, Quality::Good, ValueRef::Text(&text));
    let mut queue = Queue::default();
    for round in 0..3 {
        let chunk = chunk(1 + round * 4, &[row(12), row(999), row(13), row(14)], &[(4, 1, 0)]);
        queue.note(&chunk, &note(&table, &chunk).rows);
    }
    let rows = |most, bytes| -> usize {
        queue.first(most, bytes, None).iter().map(|slice| slice.rows().len()).sum()
    };
    assert_eq!(rows(99, 10), 1);
    assert_eq!(rows(99, 100), 1);
    assert_eq!(rows(99, 299), 2);
    assert_eq!(rows(99, 300), 3);
    assert_eq!(rows(99, 500), 5);
    assert_eq!(rows(4, 10_000), 4);
    assert_eq!(rows(99, 10_000), 9);
}
