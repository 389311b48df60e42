//! Redis by its own protocol over a Unix socket: a script in Lua for a batch.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::{Batch, Found, Peer, Session, connected, program};

const SETTINGS: &[(&str, &str)] =
    &[("appendonly", "yes"), ("appendfsync", "always"), ("auto-aof-rewrite-percentage", "0"), ("save", "")];

/// The batch's id, then point, time and value of each reading.
const BATCH: &str = "\
    if not redis.call('SET', 'b:' .. ARGV[1], 1, 'NX') then return 0 end
    for i = 2, #ARGV, 3 do
      local state = 's:' .. ARGV[i]
      redis.call('HINCRBY', state, 'count', 1)
      redis.call('HINCRBYFLOAT', state, 'sum', ARGV[i + 2])
      redis.call('XADD', 'journal', '*', 'p', ARGV[i], 'a', ARGV[i + 1], 'v', ARGV[i + 2])
    end
    return 1";

const COUNT: &str = "\
    local sum = 0
    for point = 0, tonumber(ARGV[1]) - 1 do
      sum = sum + (redis.call('HGET', 's:bench/p' .. point .. '/value', 'count') or 0)
    end
    return sum";

struct Redis {
    folder: tempfile::TempDir,
    server: Child,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

pub(super) fn find() -> Result<Found> {
    let Some(path) = program("redis-server") else {
        return Ok(Found::Missing("redis-server isn't installed".to_owned()));
    };
    let folder = tempfile::tempdir()?;
    let mut start = Command::new(path);
    start.args(["--port", "0", "--unixsocket"]).arg(socket(folder.path()));
    start.arg("--dir").arg(folder.path());
    for (name, value) in SETTINGS {
        start.args([&format!("--{name}"), *value]);
    }
    let server =
        start.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("can't start redis-server")?;
    let redis = Redis { folder, server };
    let mut connection = connected("Redis", || Connection::open(redis.folder.path()))?;
    let info = connection.ask(&[b"INFO", b"server"])?;
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or("?").to_owned();
    let settings: Vec<_> = SETTINGS.iter().map(|(name, value)| format!("{name} {value:?}")).collect();
    Ok(Found::Here(Box::new(redis), format!("Redis {version}, {}", settings.join(", "))))
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("socket")
}

impl Peer for Redis {
    fn connect<'b>(&self, batches: &'b [Batch]) -> Result<Box<dyn Session + Send + 'b>> {
        let mut connection = Connection::open(self.folder.path())?;
        let script = connection.ask(&[b"SCRIPT", b"LOAD", BATCH.as_bytes()])?;
        let texts = |batch: &Batch| {
            batch
                .rows()
                .flat_map(|(point, at, value)| [point.to_owned(), format!("{at}"), format!("{value}")])
                .collect()
        };
        Ok(Box::new(Scripts { connection, script, batches: batches.iter().map(texts).collect() }))
    }

    fn counted(&self) -> Result<u64> {
        let mut connection = Connection::open(self.folder.path())?;
        let points = super::POINTS.to_string();
        connection.ask(&[b"EVAL", COUNT.as_bytes(), b"0", points.as_bytes()])?.parse().context("not a number")
    }
}

struct Scripts {
    connection: Connection,
    script: String,
    batches: Vec<Vec<String>>,
}

impl Session for Scripts {
    fn send(&mut self, number: usize, id: u64) -> Result<()> {
        let id = id.to_string();
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", self.script.as_bytes(), b"0", id.as_bytes()];
        words.extend(self.batches[number].iter().map(String::as_bytes));
        match self.connection.ask(&words)?.as_str() {
            "1" => Ok(()),
            other => bail!("a batch got {other:?}"),
        }
    }
}

struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    fn open(folder: &Path) -> Result<Self> {
        Ok(Self { stream: BufReader::new(UnixStream::connect(socket(folder))?) })
    }

    /// Sends a command; gives its answer, which is a line or a text.
    fn ask(&mut self, words: &[&[u8]]) -> Result<String> {
        let mut command = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            write!(command, "${}\r\n", word.len())?;
            command.extend_from_slice(word);
            command.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&command)?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        match line.split_at_checked(1) {
            Some(("+" | ":", answer)) => Ok(answer.to_owned()),
            Some(("$", length)) => {
                let mut text = vec![0; length.parse::<usize>().context("no length")? + 2];
                self.stream.read_exact(&mut text)?;
                text.truncate(text.len() - 2);
                Ok(String::from_utf8(text)?)
            }
            _ => bail!("Redis says: {line}"),
        }
    }
}
