//! Writes to stdout: lines, and in a terminal a chart below them that is drawn anew each time.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Result;

/// Writes at once, and fails where nobody reads any more.
pub(crate) fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// The lines of the table, and the chart below.
pub(crate) struct Screen {
    has_charts: bool,
    /// Lines of the chart that stand on the screen.
    drawn: usize,
}

impl Screen {
    /// Draws charts where stdout is a terminal that moves its cursor.
    pub(crate) fn new() -> Self {
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Self { has_charts: std::io::stdout().is_terminal() && !is_dumb, drawn: 0 }
    }

    /// Writes lines where the chart was, and the chart below them.
    pub(crate) fn show(&mut self, lines: &str, chart: &str) -> Result<()> {
        if !self.has_charts {
            return say(lines);
        }
        // Lines of the chart are cut at the terminal's edge, so that each is one: else more would have to be taken back.
        let text = format!("{}{lines}\x1b[?7l{chart}\x1b[?7h", self.erasing());
        self.drawn = chart.lines().count();
        say(&text)
    }

    /// The codes that take the chart off the screen.
    fn erasing(&self) -> String {
        if self.drawn == 0 { String::new() } else { format!("\x1b[{}A\r\x1b[J", self.drawn) }
    }
}
