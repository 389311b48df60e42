//! An app outside of the sandbox, in a process of its own: see the crate `ironloom-native`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ironloom_native::App;
use ironloom_tests::guests;

pub(crate) struct Native {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Native {
    pub(crate) fn start(app: App, batch: usize) -> Result<Self> {
        let mut command = Command::new(guests::build_native()?);
        command.args([app.name(), &batch.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().context("can't start the program without a sandbox")?;
        let commands = process.stdin.take().context("no stdin")?;
        let answers = BufReader::new(process.stdout.take().context("no stdout")?);
        Ok(Self { process, commands, answers })
    }

    /// Forgets all state.
    pub(crate) fn begin(&mut self) -> Result<()> {
        Ok(writeln!(self.commands, "begin")?)
    }

    /// Feeds it the next round, and says how long that took.
    pub(crate) fn round(&mut self) -> Result<Duration> {
        writeln!(self.commands, "round")?;
        Ok(Duration::from_nanos(self.answer()?.parse()?))
    }

    /// The state, by key.
    pub(crate) fn state(&mut self) -> Result<BTreeMap<String, Vec<u8>>> {
        writeln!(self.commands, "state")?;
        let keys: usize = self.answer()?.parse()?;
        (0..keys).map(|_| entry(&self.answer()?)).collect()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        let line = line.strip_suffix('\n').context("the program without a sandbox has ended")?;
        Ok(line.to_owned())
    }
}

fn entry(line: &str) -> Result<(String, Vec<u8>)> {
    let (key, hex) = line.rsplit_once(' ').with_context(|| format!("{line:?} is no entry"))?;
    let value = hex.as_bytes().chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    Ok((key.to_owned(), value.collect::<Result<_>>()?))
}

impl Drop for Native {
    fn drop(&mut self) {
        // Without commands it would end by itself; this is for where the benchmark fails.
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}
