//! Shows the sample app at work: a real server on a temporary folder, fed with real weighings faster
//! than real time. `cargo xtask demo` builds all and runs this.

mod app;
mod machine;
mod watch;

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Parser;

use crate::machine::{Node, Signals};
use crate::watch::Watch;

/// Shows the sample app at work, until Ctrl-C.
#[derive(Parser, Debug)]
#[command(name = "ironloom-demo")]
struct Options {
    /// End by itself after so long, such as 30s or 2m
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// A setting of the app, as `ironloom install --set` takes it; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

/// Between two lines of the table.
const LINE: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let options = Options::parse();
    let signals = Signals::listen()?;
    say(concat!(
        "A herd's weighings pass through an app in a sandbox. The feed is real: 861 weighings of 72 pigs, a week of\n",
        "theirs in each second here, timers included; after its 12 weeks it begins again with a new barn.\n\n",
    ))?;
    say("$ ironloom build sample-apps/pigs\n")?;
    let package = app::build()?;
    let mut node = Node::start()?;
    say(&format!("$ ironloom serve --config ironloom.toml --data …   # {}\n", node.folder().display()))?;
    let begun = Instant::now();
    app::install(&node, &package, &options.settings)?;
    say(&format!(
        "\nThe API is at {url}. To try, in another terminal:\n  curl -s {url}/v1/alarms?limit=3\n  \
         curl -s '{url}/v1/installations/pigs/outputs?output=market-day&limit=3'\n  \
         IRONLOOM_URL={url} {binary} show pigs\n{end}\n\n",
        url = node.url(),
        binary = ironloom_tests::server::binary()?.display(),
        end = options.time.map_or("Ctrl-C ends it.".to_owned(), |time| format!("It ends after {time:?}.")),
    ))?;

    let mut watch = Watch::new(node.client());
    say(&watch.header())?;
    let mut next = Instant::now() + LINE;
    loop {
        let end = options.time.map(|time| begun + time);
        let until = end.map_or(next, |end| end.min(next));
        let interrupted = signals.wait(until.saturating_duration_since(Instant::now()));
        if let Some(status) = node.ended()? {
            bail!("the server ended with {status}:\n{}", node.said());
        }
        say(&watch.look()?)?;
        if interrupted || end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        next += LINE;
    }
    say(&watch.summary(begun.elapsed()))?;
    let problems = watch.problems();
    let status = node.stop()?;
    ensure!(
        status.success(),
        "the server's last words, after which it ended with {status}:\n{}",
        node.said()
    );
    ensure!(problems.is_empty(), "the app failed: {}", problems.join("; "));
    Ok(())
}

/// At once, and an error where nobody reads any more.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
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
