//! `ironloom top`: what installations take, as a table that lives.

use std::io::IsTerminal as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Stylize as _;
use ratatui::text::Line;
use ratatui::widgets::{Row, Table};

use super::client::Client;
use super::failure::Outcome;
use super::usage::{COLUMNS, fetch, row};
use super::{Global, output};
use crate::api::facade::{InstallationUsage, Usage, UsageKey};
use ironloom_types::text::clean;

/// The time between two looks at the server.
const EVERY: Duration = Duration::from_secs(1);
/// The time after which an answer that doesn't come is a problem.
const LATE: Duration = Duration::from_secs(5);
/// The time between two looks at the keys and at what the server has answered.
const KEYS_EVERY: Duration = Duration::from_millis(100);
/// Installations that are asked for: more than a terminal has lines.
const MOST: usize = 500;
const HELP: &str =
    "sort: n name  r readings/s  b behind  c cpu  m memory  s state  p points  j journal  l log   q quit";

/// Shows what installations take, anew each second; without a terminal once.
#[derive(Args, Debug)]
pub(super) struct Top {
    /// Sort by name, rate, lag, cpu, memory, state, points, journal or log at the beginning
    #[arg(long, value_name = "KEY", default_value = "rate", value_parser = str::parse::<UsageKey>)]
    sort: UsageKey,
}

impl Top {
    pub(super) fn run(self, global: &Global) -> Outcome {
        let client = global.client()?;
        let answer = fetch(&client, self.sort, MOST)?;
        if global.json || !std::io::stdout().is_terminal() {
            return output::one(global, &answer, |usage: Usage| {
                output::table(&COLUMNS.map(|(name, ..)| name), usage.installations.iter().map(row))
            });
        }
        let mut screen = Screen { usage: answer.read()?, sort: self.sort, problem: None };
        let mut terminal = ratatui::try_init().context("the terminal can't be used")?;
        let ended = screen.live(&mut terminal, client);
        ratatui::restore();
        ended
    }
}

/// The table as it is shown.
#[derive(Debug)]
struct Screen {
    usage: Usage,
    sort: UsageKey,
    /// Why it is not of now.
    problem: Option<String>,
}

impl Screen {
    fn live(&mut self, terminal: &mut ratatui::DefaultTerminal, client: Client) -> Outcome {
        // Beside the keys: a server that doesn't answer must not keep anybody from leaving.
        let (ask, asked) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for sort in asked {
                let usage = fetch(&client, sort, MOST).and_then(|answer| answer.read::<Usage>());
                if tell.send(usage.map_err(|failure| failure.to_string())).is_err() {
                    return;
                }
            }
        });
        let (mut looked, mut is_asked) = (Instant::now(), false);
        loop {
            terminal.draw(|frame| self.draw(frame)).context("the terminal can't be drawn on")?;
            if !is_asked && looked.elapsed() >= EVERY {
                ask.send(self.sort).context("nobody asks the server any more")?;
                (looked, is_asked) = (Instant::now(), true);
            }
            if event::poll(KEYS_EVERY).context("no keys can be read")? {
                match event::read().context("no keys can be read")? {
                    Event::Key(key) if key.kind == KeyEventKind::Press && !self.press(key) => return Ok(()),
                    _ => {}
                }
            }
            match told.try_recv() {
                Ok(Ok(mut usage)) => {
                    // Another key may have been pressed since.
                    self.sort.sort(&mut usage.installations);
                    (self.usage, self.problem, is_asked) = (usage, None, false);
                }
                Ok(Err(problem)) => (self.problem, is_asked) = (Some(problem), false),
                Err(_) if is_asked && looked.elapsed() >= LATE => {
                    self.problem = Some("the server doesn't answer".to_owned());
                }
                Err(_) => {}
            }
        }
    }

    /// Takes a key; false where it ends the table.
    fn press(&mut self, key: KeyEvent) -> bool {
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char(letter) => {
                if let Some((_, sort, _)) = COLUMNS.iter().find(|(.., known)| *known == letter) {
                    self.sort = *sort;
                    self.sort.sort(&mut self.usage.installations);
                }
            }
            _ => {}
        }
        true
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)])
                .areas(frame.area());
        let Usage { installations, installations_total, points_total, .. } = &self.usage;
        let rate: f64 = installations.iter().map(|one| one.rate.readings).sum();
        let cpu: f64 = installations.iter().map(|one| one.rate.cpu).sum();
        let cpu = cpu * 100.0;
        let first = match &self.problem {
            Some(problem) => Line::from(format!("not of now: {}", clean(problem))).bold(),
            None => Line::from(format!(
                "{installations_total} installations, {points_total} points, {rate:.1} readings/s, {cpu:.1} % of a processor"
            )),
        };
        frame.render_widget(first, head);
        let names = COLUMNS.map(|(name, key, _)| {
            let name = name.to_uppercase();
            if key == self.sort { name.bold().underlined() } else { name.into() }
        });
        let cells: Vec<[String; 9]> = installations.iter().map(shown).collect();
        let widths = COLUMNS.iter().enumerate().map(|(at, (name, ..))| {
            let longest = cells.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
            Constraint::Length(longest.max(name.len()) as u16)
        });
        let widths: Vec<_> = widths.collect();
        let table =
            Table::new(cells.into_iter().map(Row::new), widths).header(Row::new(names)).column_spacing(2);
        frame.render_widget(table, body);
        frame.render_widget(Line::from(HELP).dim(), foot);
    }
}

/// A row that can't steer the terminal.
fn shown(usage: &InstallationUsage) -> [String; 9] {
    row(usage).map(|cell| clean(&cell).into_owned())
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::api::facade::{InstallationState, Rate};
    use ironloom_types::ids::{AppId, InstallationId, TenantId};

    fn usage(id: &str, readings: f64, state_bytes: u64) -> InstallationUsage {
        InstallationUsage {
            installation: InstallationId::new(TenantId::MAIN, id).unwrap(),
            app: AppId::new("com.example.pigs").unwrap(),
            state: InstallationState::Running,
            lag: 3,
            state_bytes,
            points: 5,
            derived: 7,
            derived_bytes: 2_048,
            cpu_seconds: 1.25,
            peak_memory: 1 << 20,
            log_lines: 9,
            dead_letter_bytes: 0,
            rate: Rate { readings, cpu: 0.5, derived_bytes: 0.0, over: 60.0 },
        }
    }

    fn screen() -> Screen {
        let installations = vec![usage("pigs", 12.5, 10), usage("barn", 2.0, 4_096)];
        let usage = Usage { installations, installations_total: 2, points_total: 11, ..Usage::default() };
        Screen { usage, sort: UsageKey::Rate, problem: None }
    }

    fn lines(screen: &Screen) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(110, 6)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..110).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..6).map(line).collect()
    }

    fn press(screen: &mut Screen, code: KeyCode) -> bool {
        screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn the_table_has_totals_a_row_for_each_and_its_keys() {
        let lines = lines(&screen());
        assert_eq!(lines[0], "2 installations, 11 points, 14.5 readings/s, 100.0 % of a processor");
        let words = |line: &str| {
            line.split("  ")
                .filter(|word| !word.is_empty())
                .map(|word| word.trim().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            words(&lines[1]),
            [
                "INSTALLATION",
                "READINGS/S",
                "BEHIND",
                "CPU",
                "PEAK MEMORY",
                "STATE",
                "POINTS",
                "JOURNAL",
                "LOG LINES"
            ]
        );
        assert_eq!(words(&lines[2]), ["pigs", "12.5", "3", "50.0 %", "1.0 MiB", "10 B", "5", "2.0 KiB", "9"]);
        assert_eq!(words(&lines[3])[0], "barn");
        assert!(lines[5].ends_with("q quit"), "{}", lines[5]);
    }

    #[test]
    fn a_letter_sorts_at_once_and_q_ends() {
        let mut screen = screen();
        assert!(press(&mut screen, KeyCode::Char('s')));
        assert!(lines(&screen)[2].starts_with("barn"));
        assert!(press(&mut screen, KeyCode::Char('n')) && screen.sort == UsageKey::Name);
        assert!(press(&mut screen, KeyCode::Char('x')) && press(&mut screen, KeyCode::Char('c')));
        assert!(!screen.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
        assert!(!press(&mut screen, KeyCode::Char('q')) && !press(&mut screen, KeyCode::Esc));
    }

    #[test]
    fn what_is_not_of_now_is_said() {
        let mut screen = screen();
        screen.problem = Some("no server at http://127.0.0.1:1".to_owned());
        assert_eq!(lines(&screen)[0], "not of now: no server at http://127.0.0.1:1");
    }
}
