//! The matches of each point: 8 bytes for a point that one input takes, or none, and a block of an arena for one that
//! several take. Whoever adds or removes a lane touches its own points only.

use super::{MAX_LANES, Match, Slot};
use ironloom_types::ids::PointNumber;

/// Blocks of an arena are powers of two of entries.
const SIZES: usize = 32;

/// The matches of all points, each point's in the order of lanes and inputs.
#[derive(Debug)]
pub(super) struct Matches {
    /// For each point its one match, [`NONE`], or where its block begins.
    points: Vec<Match>,
    /// A block begins with an entry whose slot is the number of its matches; what stands behind them is of no meaning.
    arena: Vec<Match>,
    /// Blocks that are free, by the power of two that they are long.
    free: [Vec<u32>; SIZES],
}

/// No lane has these numbers.
const NONE: Match = Match { slot: Slot(MAX_LANES << 8), entity: 0 };
const SEVERAL: Slot = Slot(MAX_LANES << 8 | 1);

impl Default for Matches {
    fn default() -> Self {
        Self { points: Vec::new(), arena: Vec::new(), free: std::array::from_fn(|_| Vec::new()) }
    }
}

impl Matches {
    /// The number of points, including gaps.
    pub(super) fn points(&self) -> usize {
        self.points.len()
    }

    /// Adds points without matches up to this many.
    pub(super) fn grow(&mut self, points: usize) {
        self.points.resize(points, NONE);
    }

    /// The matches of a point; none of one that was not added.
    #[inline]
    pub(super) fn of(&self, point: PointNumber) -> &[Match] {
        let Some(own) = self.points.get(point.0 as usize) else { return &[] };
        if own.slot.0 < NONE.slot.0 {
            std::slice::from_ref(own)
        } else if own.slot == SEVERAL {
            let block = own.entity as usize;
            &self.arena[block + 1..][..self.arena[block].slot.0 as usize]
        } else {
            &[]
        }
    }

    /// Puts matches, which are in order, in place of those that a point had.
    pub(super) fn set(&mut self, point: PointNumber, matches: &[Match]) {
        let before = self.points[point.0 as usize];
        self.points[point.0 as usize] = match matches {
            [] => NONE,
            [only] => *only,
            several => Match { slot: SEVERAL, entity: self.block(several) },
        };
        if before.slot == SEVERAL {
            let count = self.arena[before.entity as usize].slot.0 as usize;
            self.free[size(count)].push(before.entity);
        }
    }

    /// Adds a match to those of a point. The lane is mostly a new one, whose place is behind all others: then no other
    /// match is touched while the block has room.
    pub(super) fn insert(&mut self, point: PointNumber, new: Match) {
        let own = self.points[point.0 as usize];
        let matches = self.of(point);
        let (count, place) = (matches.len(), matches.partition_point(|one| one.slot < new.slot));
        if own.slot == SEVERAL && size(count) == size(count + 1) {
            let block = &mut self.arena[own.entity as usize..][..count + 2];
            block[0].slot.0 += 1;
            block[place + 1..].rotate_right(1);
            block[place + 1] = new;
        } else {
            let mut matches = matches.to_vec();
            matches.insert(place, new);
            self.set(point, &matches);
        }
    }

    /// Takes out the matches of a lane.
    pub(super) fn remove_lane(&mut self, lane: u32) {
        for point in (0..self.points.len() as u32).map(PointNumber) {
            if self.of(point).iter().any(|one| one.lane() == lane) {
                let others: Vec<Match> =
                    self.of(point).iter().filter(|one| one.lane() != lane).copied().collect();
                self.set(point, &others);
            }
        }
    }

    /// A new block with these matches.
    fn block(&mut self, matches: &[Match]) -> u32 {
        let size = size(matches.len());
        let begin = match self.free[size].pop() {
            Some(begin) => begin as usize,
            None => {
                let begin = self.arena.len();
                self.arena.resize(begin + (1 << size), NONE);
                begin
            }
        };
        assert!(begin < u32::MAX as usize, "an arena has fewer than 2^32 entries");
        self.arena[begin] = Match { slot: Slot(matches.len() as u32), entity: 0 };
        self.arena[begin + 1..][..matches.len()].copy_from_slice(matches);
        begin as u32
    }
}

/// The power of two that has room for so many matches and the entry before them.
fn size(matches: usize) -> usize {
    (matches + 1).next_power_of_two().trailing_zeros() as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_point_of_one_input_takes_eight_bytes() {
        assert_eq!(size_of::<Match>(), 8);
        let mut matches = Matches::default();
        matches.grow(1_000);
        (0..1_000).for_each(|n| matches.insert(PointNumber(n), Match { slot: Slot::new(n, 0), entity: n }));
        assert!(matches.arena.is_empty());
        assert_eq!(matches.of(PointNumber(999))[0].lane(), 999);
        assert_eq!(matches.of(PointNumber(1_000)), []);
    }

    #[test]
    fn the_matches_of_a_point_with_many_readers_move_only_when_their_block_is_full() {
        let mut matches = Matches::default();
        matches.grow(1);
        let (mut blocks, mut moves) = (NONE, 0);
        for lane in 0..15_000 {
            matches.insert(PointNumber(0), Match { slot: Slot::new(lane, 0), entity: lane });
            let now = matches.points[0];
            moves += usize::from(now != blocks);
            blocks = now;
        }
        // The first stands in the point itself; then blocks of 4, 8 and so on to 16,384 entries.
        assert_eq!(moves, 1 + 13);
        let lanes: Vec<u32> = matches.of(PointNumber(0)).iter().map(|one| one.lane()).collect();
        assert!(lanes.iter().copied().eq(0..15_000));
    }

    #[test]
    fn the_greatest_slot_is_a_match_like_any_other() {
        let mut matches = Matches::default();
        matches.grow(1);
        let greatest = Match { slot: Slot::new(MAX_LANES - 1, 255), entity: u32::MAX };
        matches.insert(PointNumber(0), greatest);
        assert_eq!(matches.of(PointNumber(0)), [greatest]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn they_are_what_a_list_for_each_point_holds(
            steps in prop::collection::vec((0..6_u32, 0..8_u32, 0..4_usize, any::<u8>()), 1..120),
        ) {
            let (mut matches, mut model) = (Matches::default(), vec![Vec::<Match>::new(); 6]);
            matches.grow(6);
            for (point, lane, input, kind) in steps {
                let own = &mut model[point as usize];
                match kind {
                    0..180 => {
                        let new = Match { slot: Slot::new(lane, input), entity: u32::from(kind) };
                        if own.iter().any(|one| one.slot == new.slot) {
                            continue;
                        }
                        own.push(new);
                        own.sort_unstable_by_key(|one| one.slot);
                        matches.insert(PointNumber(point), new);
                    }
                    180..230 => {
                        own.truncate(input);
                        let own = own.clone();
                        matches.set(PointNumber(point), &own);
                    }
                    _ => {
                        model.iter_mut().for_each(|own| own.retain(|one| one.lane() != lane));
                        matches.remove_lane(lane);
                    }
                }
                for (point, own) in model.iter().enumerate() {
                    prop_assert_eq!(matches.of(PointNumber(point as u32)), own.as_slice());
                }
            }
            // What is free is used again: with 4 inputs of 8 lanes a point has at most 32, so a block at most 64.
            let blocks: usize = matches.free.iter().enumerate().map(|(size, free)| free.len() << size).sum();
            let used = |own: &Vec<Match>| if own.len() > 1 { 1 << size(own.len()) } else { 0 };
            prop_assert_eq!(blocks + model.iter().map(used).sum::<usize>(), matches.arena.len());
        }
    }
}
