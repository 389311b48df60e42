//! Small charts out of block characters.

use std::collections::VecDeque;

/// Columns of a chart: with what stands beside it, a line of a terminal of 80.
const COLUMNS: usize = 32;
const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The latest values of something, one for each column.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(VecDeque<f64>);

impl Trace {
    pub(crate) fn push(&mut self, value: f64) {
        if self.0.len() == COLUMNS {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    pub(crate) fn last(&self) -> f64 {
        self.0.back().copied().unwrap_or_default()
    }

    pub(crate) fn most(&self) -> f64 {
        self.0.iter().copied().fold(0.0, f64::max)
    }

    /// The columns, the latest at the right; one of `full` is a whole block.
    pub(crate) fn draw(&self, full: f64) -> String {
        let column = |value: &f64| {
            let eighths = (value / full * 8.0).round().clamp(0.0, 8.0);
            // Whatever there is shows.
            EIGHTHS[if *value > 0.0 { eighths.max(1.0) } else { 0.0 } as usize]
        };
        let drawn: String = self.0.iter().map(column).collect();
        format!("│{drawn:>COLUMNS$}│")
    }
}

/// A bar for a part of a whole.
pub(crate) fn bar(part: f64, whole: f64) -> String {
    let share = if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
    // Full only where it is: so it is rounded down.
    let blocks = (share * COLUMNS as f64) as usize;
    let drawn: String = std::iter::repeat_n('█', blocks).collect();
    format!("│{drawn:<COLUMNS$}│")
}

/// A line of the charts: what is drawn, and the latest figure behind it.
pub(crate) fn row(name: &str, drawn: &str, figure: &str) -> String {
    format!("  {name:<20} {drawn}  {figure}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_shows_the_latest_values_by_their_height() {
        let mut trace = Trace::default();
        for value in [0.0, 0.1, 4.0, 8.0, 9.0] {
            trace.push(value);
        }
        assert_eq!(trace.draw(8.0), format!("│{} ▁▄██│", " ".repeat(COLUMNS - 5)));
        for _ in 0..COLUMNS {
            trace.push(1.0);
        }
        assert_eq!(trace.draw(8.0), format!("│{}│", "▁".repeat(COLUMNS)));
        assert_eq!((trace.last(), trace.most()), (1.0, 1.0));
    }

    #[test]
    fn a_bar_is_full_where_all_is_there() {
        assert_eq!(bar(0.0, 0.0), format!("│{}│", " ".repeat(COLUMNS)));
        assert_eq!(bar(5.0, 10.0), format!("│{}{}│", "█".repeat(COLUMNS / 2), " ".repeat(COLUMNS / 2)));
        assert_eq!(bar(9.999, 10.0), format!("│{} │", "█".repeat(COLUMNS - 1)));
        assert_eq!(bar(10.0, 10.0), format!("│{}│", "█".repeat(COLUMNS)));
    }
}
