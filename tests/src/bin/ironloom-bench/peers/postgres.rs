//! PostgreSQL by its own protocol over a Unix socket: one prepared statement for a batch, its parameters as binary
//! arrays.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::chown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::{Batch, Found, Peer, Session, connected, program};

/// The user whom PostgreSQL runs as, since it refuses root: `nobody`.
const NOBODY: u32 = 65_534;

const SETTINGS: &[&str] = &[
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=1GB",
    "wal_compression=on",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "wal_level=minimal",
    "max_wal_senders=0",
    "listen_addresses=",
];

const TABLES: &str = "\
    CREATE TABLE points (id serial PRIMARY KEY, path text NOT NULL UNIQUE);\
    CREATE TABLE batches (id bigint PRIMARY KEY);\
    CREATE TABLE journal (point int NOT NULL, at bigint NOT NULL, value float8 NOT NULL);\
    CREATE TABLE state (point int PRIMARY KEY, count bigint NOT NULL, sum float8 NOT NULL, at bigint NOT NULL) \
        WITH (fillfactor = 50);";

/// A statement may touch a row once, so readings of the same point are added up before.
const BATCH: &str = "\
    WITH new AS (INSERT INTO batches VALUES ($1) ON CONFLICT DO NOTHING RETURNING id), \
    readings AS MATERIALIZED (SELECT points.id AS point, at, value \
        FROM unnest($2::text[], $3::bigint[], $4::float8[]) AS r (path, at, value) JOIN points USING (path) \
        WHERE EXISTS (SELECT FROM new)), \
    kept AS (INSERT INTO journal SELECT point, at, value FROM readings) \
    INSERT INTO state SELECT point, count(*), sum(value), max(at) FROM readings GROUP BY point \
    ON CONFLICT (point) DO UPDATE SET count = state.count + excluded.count, sum = state.sum + excluded.sum, \
        at = excluded.at";

/// The types of its parameters: int8, text[], int8[], float8[].
const TYPES: [u32; 4] = [20, 1_009, 1_016, 1_022];
const TEXT: u32 = 25;
const INT8: u32 = 20;
const FLOAT8: u32 = 701;

struct Postgres {
    folder: tempfile::TempDir,
    server: Child,
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Nothing of it is wanted any more. Its children end with it.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// The folder of its programs, of the newest version that there is.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let folders =
        versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").is_file());
    let newest = folders.max_by_key(|bin| {
        bin.parent().and_then(Path::file_name).and_then(|name| name.to_str()?.parse::<u32>().ok())
    });
    newest.or_else(|| Some(program("initdb")?.parent()?.to_owned()))
}

pub(super) fn find() -> Result<Found> {
    let Some(bin) = programs() else { return Ok(Found::Missing("PostgreSQL isn't installed".to_owned())) };
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("data");
    let is_root = rustix::process::geteuid().is_root();
    if is_root {
        chown(folder.path(), Some(NOBODY), Some(NOBODY))?;
    }
    let command = |name: &str| {
        let mut command = Command::new(bin.join(name));
        command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if is_root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    };
    let made = command("initdb")
        .args(["-U", "bench", "-A", "trust", "-E", "UTF8", "-N", "-D"])
        .arg(&data)
        .output()?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr).lines().last().unwrap_or_default().to_owned();
        return Ok(Found::Missing(format!("initdb fails: {said}")));
    }
    let mut start = command("postgres");
    start.arg("-D").arg(&data).arg("-k").arg(folder.path()).stderr(Stdio::null());
    for setting in SETTINGS {
        start.args(["-c", setting]);
    }
    let postgres = Postgres { server: start.spawn().context("can't start PostgreSQL")?, folder };
    let mut connection = connected("PostgreSQL", || Connection::open(postgres.folder.path()))?;
    connection.ask(TABLES)?;
    let last = super::POINTS - 1;
    connection.ask(&format!(
        "INSERT INTO points (path) SELECT 'bench/p' || n || '/value' FROM generate_series(0, {last}) AS n; ANALYZE points"
    ))?;
    let version = connection.ask("SHOW server_version")?.context("it has a version")?;
    Ok(Found::Here(Box::new(postgres), format!("PostgreSQL {version}, {}", SETTINGS.join(", "))))
}

impl Peer for Postgres {
    fn connect<'b>(&self, batches: &'b [Batch]) -> Result<Box<dyn Session + Send + 'b>> {
        let mut connection = Connection::open(self.folder.path())?;
        connection.prepare(BATCH)?;
        Ok(Box::new(Batches { connection, batches }))
    }

    fn counted(&self) -> Result<u64> {
        let sum = Connection::open(self.folder.path())?.ask("SELECT coalesce(sum(count), 0) FROM state")?;
        sum.context("a sum")?.parse().context("not a number")
    }
}

struct Batches<'b> {
    connection: Connection,
    batches: &'b [Batch],
}

impl Session for Batches<'_> {
    fn send(&mut self, number: usize, id: u64) -> Result<()> {
        let Batch { points, ats, values } = &self.batches[number];
        let mut bind = Message::new(b'B');
        // The unnamed portal of the unnamed statement; all parameters in binary form.
        bind.bytes(&[0, 0]).short(1).short(1).short(4);
        bind.value(&id.to_be_bytes());
        bind.array(TEXT, points.iter());
        bind.array(INT8, ats.iter().map(|at| at.to_be_bytes()));
        bind.array(FLOAT8, values.iter().map(|value| value.to_be_bytes()));
        bind.short(0);
        let mut execute = Message::new(b'E');
        execute.bytes(&[0]).long(0);
        self.connection.send(&[bind, execute, Message::new(b'S')])?;
        self.connection.answer().map(drop)
    }
}

/// A message of the protocol: its type, its length, and what it holds, all numbers big-endian.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u8) -> Self {
        Self(vec![kind, 0, 0, 0, 0])
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn short(&mut self, number: u16) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    fn long(&mut self, number: u32) -> &mut Self {
        self.bytes(&number.to_be_bytes())
    }

    /// A parameter, behind its length.
    fn value(&mut self, bytes: &[u8]) -> &mut Self {
        self.long(bytes.len() as u32).bytes(bytes)
    }

    /// An array of one dimension that begins at 1, without nulls.
    fn array(&mut self, kind: u32, elements: impl ExactSizeIterator<Item: AsRef<[u8]>>) {
        let start = self.0.len();
        let count = elements.len() as u32;
        self.long(0).long(1).long(0).long(kind).long(count).long(1);
        elements.for_each(|element| {
            self.value(element.as_ref());
        });
        let length = (self.0.len() - start - 4) as u32;
        self.0[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Its bytes, with its length, which counts itself and not the type.
    fn finished(mut self) -> Vec<u8> {
        let length = (self.0.len() - 1) as u32;
        self.0[1..5].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

struct Connection {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(folder: &Path) -> Result<Self> {
        let stream = UnixStream::connect(folder.join(".s.PGSQL.5432"))?;
        let mut connection = Self { stream, buffer: Vec::new() };
        let mut start = Message::new(0);
        start.long(196_608).bytes(b"user\0bench\0database\0postgres\0\0");
        // The first message has no type.
        connection.stream.write_all(&start.finished()[1..])?;
        connection.answer()?;
        Ok(connection)
    }

    fn send(&mut self, messages: &[Message]) -> Result<()> {
        let bytes: Vec<u8> =
            messages.iter().flat_map(|message| Message(message.0.clone()).finished()).collect();
        Ok(self.stream.write_all(&bytes)?)
    }

    /// Runs statements as they are; gives the first field of the first row.
    fn ask(&mut self, statements: &str) -> Result<Option<String>> {
        let mut query = Message::new(b'Q');
        query.bytes(statements.as_bytes()).bytes(&[0]);
        self.send(&[query])?;
        self.answer()
    }

    fn prepare(&mut self, statement: &str) -> Result<()> {
        let mut parse = Message::new(b'P');
        parse.bytes(&[0]).bytes(statement.as_bytes()).bytes(&[0]).short(TYPES.len() as u16);
        TYPES.iter().for_each(|kind| {
            parse.long(*kind);
        });
        self.send(&[parse, Message::new(b'S')])?;
        self.answer().map(drop)
    }

    /// Reads messages until the server is ready for more.
    fn answer(&mut self) -> Result<Option<String>> {
        let (mut field, mut failed) = (None, None);
        loop {
            let mut head = [0; 5];
            self.stream.read_exact(&mut head)?;
            let [kind, length @ ..] = head;
            let length =
                (u32::from_be_bytes(length) as usize).checked_sub(4).context("a message without length")?;
            ensure!(length < 16 << 20, "a message of {length} bytes");
            self.buffer.resize(length, 0);
            self.stream.read_exact(&mut self.buffer)?;
            match kind {
                b'Z' if failed.is_none() => return Ok(field),
                b'Z' => bail!("PostgreSQL says: {}", failed.unwrap_or_default()),
                // Of an authentication anything but "all is well" would be a question.
                b'R' => ensure!(self.buffer == [0; 4], "PostgreSQL wants a password"),
                b'E' => failed = Some(String::from_utf8_lossy(&self.buffer).replace('\0', " ")),
                // The number of fields, then each behind its length.
                b'D' if field.is_none() && length >= 6 => {
                    field = Some(String::from_utf8_lossy(&self.buffer[6..]).into_owned());
                }
                _ => {}
            }
            // Where the start fails, nothing says that it is ready.
            if kind == b'E' && self.buffer.starts_with(b"SFATAL") {
                bail!("PostgreSQL says: {}", failed.unwrap_or_default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[test]
    fn an_array_is_as_the_protocol_has_it() {
        let mut message = Message::new(b'B');
        message.array(23, [7_u32.to_be_bytes(), 256_u32.to_be_bytes()].into_iter());
        // Its length, 1 dimension, no nulls, of int4, 2 of them, from 1 on; each behind its length.
        let expected = [36_u32, 1, 0, 23, 2, 1, 4, 7, 4, 256];
        let expected: Vec<u8> = expected.iter().flat_map(|number| number.to_be_bytes()).collect();
        let bytes = message.finished();
        assert_eq!(bytes[..5], [b'B', 0, 0, 0, 44]);
        assert_eq!(bytes[5..], expected);
    }
}
