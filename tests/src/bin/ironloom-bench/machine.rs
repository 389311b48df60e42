//! What it was measured on, and what else ran meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// How many processors the system shows.
    pub cores: usize,
    /// What they call themselves.
    pub processor: String,
    /// The file system of the data, and the device below it.
    pub file_system: String,
    /// Microseconds of one `fdatasync` after 4 KiB, median.
    pub fdatasync: f64,
}

impl Machine {
    /// Looks at this machine and measures its disk in a folder.
    pub(crate) fn look(folder: &Path) -> Result<Self> {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let processor = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
            file_system: file_system(folder).unwrap_or_else(|| "unknown".to_owned()),
            fdatasync: fdatasync(folder)?,
        })
    }
}

/// The mount with the longest path that holds the folder.
fn file_system(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holding = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    // Of two mounts on the same path the later one is seen.
    let mount = holding.max_by_key(|fields| fields[1].len())?;
    Some(format!("{} on {}", mount[2], mount[0]))
}

/// As the log does it: into a file that has its size already.
fn fdatasync(folder: &Path) -> Result<f64> {
    const BLOCK: usize = 4 << 10;
    const BLOCKS: usize = 256;
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0; BLOCK * BLOCKS])?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(BLOCKS);
    for block in 0..BLOCKS {
        let start = Instant::now();
        file.write_all_at(&[1; BLOCK], (block * BLOCK) as u64)?;
        sync(&file)?;
        times.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(crate::report::median(&times))
}

fn sync(file: &File) -> Result<()> {
    Ok(file.sync_data()?)
}

/// Processor time used so far, in the system's ticks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// All there was, idle or not, of all cores.
    all: u64,
    /// Used by anybody.
    busy: u64,
    /// Used by this program.
    own: u64,
    /// Used by the server, by the names of its threads.
    server: BTreeMap<String, u64>,
}

impl Usage {
    /// Until now. `server` is the id of the server's process, where there is one.
    pub(crate) fn now(server: Option<u32>) -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("can't read /proc/stat")?;
        let line = text.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal: what follows is part of these.
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
        let all = ticks.iter().sum();
        let idle: u64 = ticks.iter().skip(3).take(2).sum();
        let mut usage =
            Self { all, busy: all - idle, own: ticks_of("/proc/self/stat")?.1, ..Self::default() };
        if let Some(server) = server {
            for thread in fs::read_dir(format!("/proc/{server}/task"))? {
                // A thread may have ended since.
                if let Ok((name, ticks)) = ticks_of(&format!("{}/stat", thread?.path().display())) {
                    *usage.server.entry(name).or_default() += ticks;
                }
            }
        }
        Ok(usage)
    }

    /// What was used between two moments.
    pub(crate) fn since(&self, before: &Self) -> Shares {
        let share = |ticks: u64| 100.0 * ticks as f64 / (self.all - before.all).max(1) as f64;
        let by_thread = |(name, ticks): (&String, &u64)| {
            let ticks = ticks.saturating_sub(before.server.get(name).copied().unwrap_or_default());
            (name.clone(), share(ticks))
        };
        let mut threads: Vec<(String, f64)> = self.server.iter().map(by_thread).collect();
        threads.retain(|(_, share)| *share >= 0.1);
        threads.sort_by(|a, b| b.1.total_cmp(&a.1));
        let own = share(self.own - before.own);
        let server: f64 = threads.iter().map(|(_, share)| share).sum();
        let busy = share(self.busy - before.busy);
        Shares { foreign: (busy - own - server).max(0.0), generator: own, server, threads }
    }
}

/// Shares of all cores, in %.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares {
    /// Other processes, and the system where it works for nobody in particular.
    pub foreign: f64,
    pub generator: f64,
    pub server: f64,
    /// The server's threads by name, the busiest first.
    pub threads: Vec<(String, f64)>,
}

/// Name and ticks of a process or thread.
fn ticks_of(path: &str) -> Result<(String, u64)> {
    let text = fs::read_to_string(path).with_context(|| format!("can't read {path}"))?;
    let parse = || {
        // The name stands in parentheses and may hold anything, parentheses too.
        let (head, rest) = text.rsplit_once(')')?;
        let name = head.split_once('(')?.1;
        let mut fields = rest.split_whitespace().skip(11);
        let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some((name.to_owned(), user + system))
    };
    parse().with_context(|| format!("{path} has another form than expected"))
}
