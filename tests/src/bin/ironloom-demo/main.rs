//! Shows the sample apps at work: real servers on temporary folders, fed with recorded data faster than real time.
//! `cargo xtask demo` builds all and runs this.

mod app;
mod chargers;
mod chart;
mod herd;
mod machine;
mod screen;
mod seen;
mod site;
mod watch;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;

use crate::herd::Herd;
use crate::machine::Signals;
use crate::screen::{Screen, say};
use crate::site::Site;

/// Shows the sample apps at work, until Ctrl-C.
#[derive(Parser, Debug)]
#[command(name = "ironloom-demo")]
struct Options {
    /// End by itself after so long, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// A setting of the herd's app, as `ironloom install --set` takes it; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

/// Between two lines of the table.
const LINE: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let options = Options::parse();
    let signals = Signals::listen()?;
    say(concat!(
        "Apps in sandboxes, each on a server of its own, since time runs differently there.\n\n",
        "The herd is real: 861 weighings of 72 pigs, a week of theirs in each second here, timers included; after its\n",
        "12 weeks it begins again with a new barn.\n\n",
    ))?;
    let broker = site::broker()?;
    let pigs = app::build("sample-apps/pigs")?;
    let charging = broker.as_ref().map(|_| app::build("sample-apps/charging")).transpose()?;
    let mut herd = Herd::start(&pigs, &options.settings)?;
    let begun = Instant::now();
    let mut site = match (broker, charging) {
        (Some(broker), Some(package)) => Some(Site::start(broker, &package)?),
        _ => None,
    };
    say(&to_try(&herd, site.as_ref(), options.time)?)?;

    let mut screen = Screen::new();
    let headers =
        format!("{}{}", Herd::header(), if site.is_some() { Site::header() } else { String::new() });
    screen.show(&headers, "")?;
    // All run by now: what a slow machine needs for that takes nothing away from what is shown.
    let end = options.time.map(|time| Instant::now() + time);
    let mut next = Instant::now() + LINE;
    loop {
        let until = end.map_or(next, |end| end.min(next));
        let interrupted = signals.wait(until.saturating_duration_since(Instant::now()));
        herd.check()?;
        let (mut lines, mut charts) = (herd.look()?, herd.chart());
        if let Some(site) = &mut site {
            site.check()?;
            lines += &site.look()?;
            charts += &site.chart();
        }
        screen.show(&lines, &charts)?;
        if interrupted || end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        next += LINE;
    }
    finish(herd, site, begun.elapsed())
}

/// Stops all, says what there was, and fails where something went wrong.
fn finish(mut herd: Herd, mut site: Option<Site>, took: Duration) -> Result<()> {
    let mut summary = herd.summary(took);
    let mut problems = herd.problems();
    herd.stop()?;
    if let Some(site) = &mut site {
        // Its limits are watched until its server has ended.
        site.stop()?;
        summary += &site.summary(took);
        problems.extend(site.problems());
    }
    say(&summary)?;
    ensure!(problems.is_empty(), "an app failed: {}", problems.join("; "));
    Ok(())
}

/// Commands that can be tried in another terminal.
fn to_try(herd: &Herd, site: Option<&Site>, time: Option<Duration>) -> Result<String> {
    let binary = ironloom_tests::server::binary()?;
    let (url, binary) = (herd.url(), binary.display());
    let mut text = format!(
        "\nThe herd's API is at {url}. To try, in another terminal:\n  curl -s {url}/v1/alarms?limit=3\n  \
         curl -s '{url}/v1/installations/pigs/outputs?output=market-day&limit=3'\n  \
         IRONLOOM_URL={url} {binary} show pigs\n"
    );
    if let Some(site) = site {
        let url = site.url();
        text += &format!(
            "The chargers' API is at {url}:\n  IRONLOOM_URL={url} {binary} intents charging\n  \
             IRONLOOM_URL={url} {binary} halt        # the kill switch; then: release\n"
        );
    }
    let end = time.map_or("Ctrl-C ends it.".to_owned(), |time| format!("It ends after {time:?}."));
    Ok(format!("{text}{end}\n\n"))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a time such as 30s, 2m or 1h");
    let unit = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..unit].parse().map_err(|_| wrong())?;
    let seconds = match text[unit..].trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("2 min"), Ok(Duration::from_secs(120)));
        for wrong in ["", "30", "s", "-1s", "1d", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
