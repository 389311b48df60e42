//! The demo shows sensible figures, and fails where an app does.

use std::process::{Command, Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use ironloom_tests::server::binary;

fn demo(arguments: &[&str]) -> Result<Output> {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_ironloom-demo"));
    demo.args(arguments).env("IRONLOOM_BIN", binary()?).stdin(Stdio::null());
    Ok(demo.output()?)
}

/// The figures of a line of the chargers' table.
#[derive(Debug, PartialEq)]
struct Line {
    /// Such as `2019-05-06 06:30`.
    time: String,
    cars: f64,
    chargers: f64,
    building: f64,
    load: f64,
    capacity: f64,
    asked: f64,
    delivered: f64,
    set_points: f64,
}

impl Line {
    fn read(line: &str) -> Result<Self> {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let [_, date, time, numbers @ ..] = &cells[..] else { anyhow::bail!("a short line: {line}") };
        let numbers: Result<Vec<f64>, _> = numbers.iter().map(|number| number.parse()).collect();
        let numbers = numbers.with_context(|| line.to_owned())?;
        let [cars, chargers, building, load, capacity, asked, delivered, set_points, _alarms] = numbers[..]
        else {
            anyhow::bail!("a line has nine numbers: {line}")
        };
        let time = format!("{date} {time}");
        Ok(Self { time, cars, chargers, building, load, capacity, asked, delivered, set_points })
    }
}

#[test]
fn herd_and_chargers_are_shown_with_sensible_figures() -> Result<()> {
    let output = demo(&["--for=15s"])?;
    let (text, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{}: {said}\n{text}", output.status);
    ensure!(text.contains("\nherd  2") && text.contains("\nThe herd, in "), "no herd: {text}");
    if let Some(why) = text.lines().find(|line| line.starts_with("No chargers are shown")) {
        ironloom_mutate::not_tested("the chargers of the demo", why);
        return Ok(());
    }
    let lines = text.lines().filter(|line| line.starts_with("site  2019-"));
    let lines: Vec<Line> = lines.map(Line::read).collect::<Result<_>>()?;
    // A line each second; a machine that has much else to do misses some.
    ensure!(lines.len() >= 5, "{text}");
    for line in &lines {
        // Numbers have one decimal.
        ensure!((line.building + line.chargers - line.load).abs() < 0.11, "{line:?}");
        ensure!(line.load <= line.capacity && line.capacity == 120.0, "{line:?}");
        ensure!(line.delivered <= line.asked && line.cars <= 54.0, "{line:?}");
        ensure!((10.0..=30.0).contains(&line.building), "the office draws 10 to 30 A: {line:?}");
    }
    for pair in lines.windows(2) {
        ensure!(pair[0].time <= pair[1].time && pair[0].asked <= pair[1].asked, "{pair:?}");
        ensure!(pair[0].delivered <= pair[1].delivered, "{pair:?}");
        ensure!(pair[0].set_points <= pair[1].set_points, "{pair:?}");
    }
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    ensure!(first.time.as_str() >= "2019-05-06 06:30", "the week begins on Monday morning: {first:?}");
    ensure!(last.cars > 0.0 && last.delivered > 0.0 && last.set_points > 0.0, "{last:?}");
    ensure!(text.contains("never more than the building left."), "{text}");
    // Charts are for terminals.
    ensure!(!text.contains('\x1b') && !text.contains('█'), "{text}");
    Ok(())
}

#[test]
fn an_app_that_fails_gives_exit_code_1_and_the_reason() -> Result<()> {
    // The app knows no such breed: it takes no reading until somebody corrects the setting.
    let output = demo(&["--for=5s", "--set=breed=unicorn"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {said}", output.status);
    ensure!(said.contains("an app failed") && said.contains("`unicorn` isn't known"), "{said}");
    Ok(())
}
