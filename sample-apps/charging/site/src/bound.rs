//! An upper bound of all schedulers: a maximum flow from the sessions through the periods.
//!
//! A session can give at most its energy, each period carries at most what is available, and between the two flow at most 32 A
//! in each period of the stay. That limits are 0 or at least 6 A is left out, and all sessions are known in advance: whatever
//! a scheduler delivers under the rule is such a flow, so the largest flow is an upper bound of it. It needn't be reached.

use std::collections::VecDeque;

use crate::simulation::available;
use crate::week::Week;
use crate::{KWH, MOST};

/// Flow is counted in millionths of an ampere-period: whole numbers, so that it ends.
const UNIT: f64 = 1e6;

/// The most of the week's energy that any scheduler can deliver, in percent.
pub fn upper_bound(week: &Week, capacity: f64, with_load: bool) -> f64 {
    let (sessions, periods) = (week.sessions.len(), week.periods());
    let (source, sink) = (sessions + periods, sessions + periods + 1);
    let mut network = Network::new(sink + 1);
    // Rounded up: a bound must not be too low.
    let units = |amperes: f64| (amperes * UNIT).ceil() as u64;
    for (place, session) in week.sessions.iter().enumerate() {
        network.add(source, place, units(session.energy / KWH));
        for period in session.first..session.end {
            network.add(place, sessions + period, units(MOST));
        }
    }
    for period in 0..periods {
        network.add(sessions + period, sink, units(available(week, period, capacity, with_load)));
    }
    100.0 * network.flow(source, sink) as f64 / UNIT * KWH / week.energy()
}

struct Edge {
    to: usize,
    room: u64,
}

/// Edges stand in pairs: the one at `n ^ 1` leads back.
struct Network {
    edges: Vec<Edge>,
    of: Vec<Vec<usize>>,
}

impl Network {
    fn new(nodes: usize) -> Self {
        Self { edges: Vec::new(), of: vec![Vec::new(); nodes] }
    }

    fn add(&mut self, from: usize, to: usize, room: u64) {
        self.of[from].push(self.edges.len());
        self.edges.push(Edge { to, room });
        self.of[to].push(self.edges.len());
        self.edges.push(Edge { to: from, room: 0 });
    }

    /// Dinic's algorithm: as long as the sink can be reached, blocks all shortest paths.
    fn flow(&mut self, source: usize, sink: usize) -> u64 {
        let mut total = 0;
        loop {
            let levels = self.levels(source);
            if levels[sink].is_none() {
                return total;
            }
            let mut next = vec![0; self.of.len()];
            loop {
                let pushed = self.push(source, sink, u64::MAX, &levels, &mut next);
                if pushed == 0 {
                    break;
                }
                total += pushed;
            }
        }
    }

    /// The distance of each node from the source, in edges with room.
    fn levels(&self, source: usize) -> Vec<Option<usize>> {
        let mut levels = vec![None; self.of.len()];
        levels[source] = Some(0);
        let mut queue = VecDeque::from([(source, 0)]);
        while let Some((node, level)) = queue.pop_front() {
            for edge in self.of[node].iter().map(|&edge| &self.edges[edge]) {
                if edge.room > 0 && levels[edge.to].is_none() {
                    levels[edge.to] = Some(level + 1);
                    queue.push_back((edge.to, level + 1));
                }
            }
        }
        levels
    }

    /// Pushes what it can along one path; paths have at most some dozens of edges.
    fn push(
        &mut self,
        node: usize,
        sink: usize,
        most: u64,
        levels: &[Option<usize>],
        next: &mut [usize],
    ) -> u64 {
        if node == sink {
            return most;
        }
        while let Some(&edge) = self.of[node].get(next[node]) {
            let Edge { to, room } = self.edges[edge];
            if room > 0 && levels[to] == levels[node].map(|level| level + 1) {
                let pushed = self.push(to, sink, most.min(room), levels, next);
                if pushed > 0 {
                    self.edges[edge].room -= pushed;
                    self.edges[edge ^ 1].room += pushed;
                    return pushed;
                }
            }
            next[node] += 1;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::week::Session;
    use ironloom_sdk::Timestamp;

    fn week(sessions: &[(usize, usize, f64)]) -> Week {
        let at = |period: usize| Timestamp::from_seconds(300 * period as u64);
        let sessions = sessions.iter().map(|&(first, end, amperes)| {
            Session::new(Timestamp::EPOCH, at(first), at(end), "a", amperes * KWH)
        });
        Week::of(Timestamp::EPOCH, sessions.collect(), [10.0; 24])
    }

    #[test]
    fn flows_are_those_found_by_hand() {
        let close =
            |found: f64, wanted: f64| assert!((found - wanted).abs() < 1e-4, "{found} is not {wanted}");
        // One car: two periods of 32 A at most, and it needs 80.
        close(upper_bound(&week(&[(0, 2, 80.0)]), 100.0, false), 100.0 * 64.0 / 80.0);
        // The capacity binds, then the capacity less the building's load.
        close(upper_bound(&week(&[(0, 2, 80.0)]), 20.0, false), 50.0);
        close(upper_bound(&week(&[(0, 2, 80.0)]), 20.0, true), 25.0);
        // Whoever stays longer gives way: both become full, which needs a path back.
        close(upper_bound(&week(&[(0, 2, 32.0), (0, 1, 32.0)]), 32.0, false), 100.0);
        // Three cars in periods 0, 0 and 1, 1 and 2: 40 + 40 A, and 32 A by the last one alone.
        close(
            upper_bound(&week(&[(0, 1, 50.0), (0, 2, 50.0), (1, 3, 50.0)]), 40.0, false),
            100.0 * 112.0 / 150.0,
        );
    }
}
