//! A part of a batch, as the app would have been offered it by itself.

use std::collections::BTreeMap;
use std::ops::Range;

use ironloom_sandbox::{Batch, Frame, Values};

/// The number of readings of a batch.
pub(super) fn readings(batch: &Batch) -> usize {
    batch.frames.iter().map(|frame| frame.at.len()).sum()
}

/// The readings of a batch at these places, in the order in which they came. Entities are numbered anew, each as it first
/// appears.
pub(super) fn part(batch: &Batch, range: Range<usize>) -> Batch {
    let place = |frame: &Frame, row: usize| frame.order.as_ref().map_or(row, |order| order[row] as usize);
    let mut rows: Vec<(usize, usize, usize)> = Vec::with_capacity(range.len());
    for (index, frame) in batch.frames.iter().enumerate() {
        let own = (0..frame.at.len()).map(|row| (place(frame, row), index, row));
        rows.extend(own.filter(|(place, ..)| range.contains(place)));
    }
    rows.sort_unstable();
    let names: Vec<&str> = batch.entities.split('\n').collect();
    let (mut numbers, mut entities) = (BTreeMap::new(), Vec::new());
    let mut chosen: BTreeMap<usize, Vec<(usize, usize, u32)>> = BTreeMap::new();
    for (place, index, row) in rows {
        let entity = batch.frames[index].entity[row];
        let number = *numbers.entry(entity).or_insert_with(|| {
            entities.push(names.get(entity as usize).copied().unwrap_or_default());
            entities.len() as u32 - 1
        });
        chosen.entry(index).or_default().push((place - range.start, row, number));
    }
    let is_only = chosen.len() == 1;
    let frames = chosen.into_iter().map(|(index, rows)| of_frame(&batch.frames[index], &rows, is_only));
    let frames = frames.collect();
    Batch { entities: entities.join("\n"), frames }
}

/// The rows of a frame: the place of each in the part, its row, and the number of its entity.
fn of_frame(frame: &Frame, rows: &[(usize, usize, u32)], is_only: bool) -> Frame {
    fn taken<T: Clone>(all: &[T], rows: &[(usize, usize, u32)]) -> Vec<T> {
        rows.iter().map(|(_, row, _)| all[*row].clone()).collect()
    }
    Frame {
        slot: frame.slot.clone(),
        entity: rows.iter().map(|(.., number)| *number).collect(),
        at: taken(&frame.at, rows),
        order: (!is_only).then(|| rows.iter().map(|(place, ..)| *place as u32).collect()),
        quality: frame.quality.as_ref().map(|all| taken(all, rows)),
        values: match &frame.values {
            Values::Booleans(all) => Values::Booleans(taken(all, rows)),
            Values::Integers(all) => Values::Integers(taken(all, rows)),
            Values::Reals(all) => Values::Reals(taken(all, rows)),
            Values::Texts(all) => Values::Texts(taken(all, rows)),
            Values::Blobs(all) => Values::Blobs(taken(all, rows)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let frame = |slot: &str, entity: &[u32], order: &[u32], values: &[i64]| Frame {
            slot: slot.to_owned(),
            entity: entity.to_vec(),
            at: order.iter().map(|place| 100 + u64::from(*place)).collect(),
            order: Some(order.to_vec()),
            quality: None,
            values: Values::Integers(values.to_vec()),
        };
        Batch {
            entities: "one\ntwo\nthree".to_owned(),
            frames: vec![
                frame("weight", &[0, 1, 0], &[0, 2, 3], &[1, 2, 3]),
                frame("feed", &[1, 2], &[1, 4], &[10, 20]),
            ],
        }
    }

    #[test]
    fn parts_have_the_rows_in_between_and_their_entities_alone() {
        let first = part(&batch(), 0..2);
        assert_eq!(first.entities, "one\ntwo");
        assert_eq!(first.frames.len(), 2);
        assert_eq!(first.frames[1].order, Some(vec![1]));
        let rest = part(&batch(), 2..5);
        assert_eq!(rest.entities, "two\none\nthree");
        let weights = &rest.frames[0];
        assert_eq!((&weights.entity[..], &weights.at[..]), (&[0, 1][..], &[102, 103][..]));
        assert!(matches!(&weights.values, Values::Integers(all) if all == &[2, 3]));
        assert_eq!(rest.frames[1].order, Some(vec![2]));
        assert_eq!(readings(&first) + readings(&rest), readings(&batch()));
    }

    #[test]
    fn a_part_of_one_input_has_no_order() {
        let only = part(&batch(), 2..4);
        assert_eq!((only.frames.len(), &only.frames[0].order), (1, &None));
        assert_eq!(only.entities, "two\none");
        assert!(part(&batch(), 5..9).frames.is_empty());
    }

    #[test]
    fn the_whole_is_the_whole() {
        assert_eq!(format!("{:?}", part(&batch(), 0..5)), format!("{:?}", batch()));
    }
}
