//! Runs an app outside of the sandbox: `ironloom-native APP BATCH`. Each line on stdin is a command:
//!
//! - `begin`: with a platform without state
//! - `round`: goes on with the batches of the next round; answers with the nanoseconds of CPU time that the app took
//! - `state`: answers with the number of keys, then key and value in hexadecimal on a line each
//!
//! It is a program of its own since it is built as guests are: with link-time optimization and `panic = "abort"`.

use std::io::{BufRead as _, Write};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ironloom_native::{App, Feed, cpu_time};
use ironloom_sdk::testing::{BatchBuilder, Platform};
use ironloom_sdk::{Readings, Timestamp};

/// The allocator of the server, in which the sandbox is measured.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let app = App::named(&arguments.next().context("no app")?)?;
    let batch = arguments.next().context("no batch")?.parse()?;
    match app {
        App::Pigs => serve::<pigs::Pigs>(app, batch),
        App::OneState => serve::<one_state::OneState>(app, batch),
    }
}

fn serve<A: Readings>(app: App, batch: usize) -> Result<()> {
    let mut feed = Feed::new(app, batch)?;
    let mut platform = Platform::from_manifest(app.manifest());
    let mut out = std::io::stdout().lock();
    for command in std::io::stdin().lock().lines() {
        match &*command? {
            "begin" => platform = Platform::from_manifest(app.manifest()),
            "round" => writeln!(out, "{}", round::<A>(&mut feed, &mut platform)?.as_nanos())?,
            "state" => tell_state(&platform, &mut out)?,
            other => bail!("{other:?} is no command"),
        }
        out.flush()?;
    }
    Ok(())
}

fn round<A: Readings>(feed: &mut Feed, platform: &mut Platform) -> Result<Duration> {
    let mut time = Duration::ZERO;
    for readings in feed.round() {
        let mut batch = BatchBuilder::new();
        for (slot, entity, at, value) in &readings {
            batch.push(slot, entity, Timestamp::from_nanos(*at), *value);
        }
        let batch = batch.build();
        let start = cpu_time();
        let outcome = platform.consume::<A>(&batch);
        time += cpu_time().saturating_sub(start);
        outcome.result.map_err(|failure| anyhow::anyhow!("outside of the sandbox: {failure}"))?;
        ensure!(outcome.refused.is_empty(), "the app refused {:?}", outcome.refused);
    }
    platform.forget();
    Ok(time)
}

fn tell_state(platform: &Platform, out: &mut impl Write) -> Result<()> {
    let state = platform.state();
    writeln!(out, "{}", state.len())?;
    for (key, value) in state {
        let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "{key} {value}")?;
    }
    Ok(())
}
