//! SQLite in this process: statements prepared once, and run for each reading.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use rusqlite::{Connection, TransactionBehavior, params};

use super::{Batch, Found, Peer, Session};

const SETTINGS: &str = "\
    PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -1000000; \
    PRAGMA wal_autocheckpoint = 10000;";

const TABLES: &str = "\
    CREATE TABLE points (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);\
    CREATE TABLE batches (id INTEGER PRIMARY KEY);\
    CREATE TABLE journal (point INTEGER NOT NULL, at INTEGER NOT NULL, value REAL NOT NULL);\
    CREATE TABLE state (point INTEGER PRIMARY KEY, count INTEGER NOT NULL, sum REAL NOT NULL, at INTEGER NOT NULL);";

struct Sqlite {
    folder: tempfile::TempDir,
}

pub(super) fn find() -> Result<Found> {
    let sqlite = Sqlite { folder: tempfile::tempdir()? };
    let mut connection = sqlite.open()?;
    connection.execute_batch(TABLES)?;
    let points = connection.transaction()?;
    for point in 0..super::POINTS {
        points.execute("INSERT INTO points (path) VALUES (?1)", [super::path(point)])?;
    }
    points.commit()?;
    let settings = format!("SQLite {}: {SETTINGS}", rusqlite::version());
    Ok(Found::Here(Box::new(sqlite), settings))
}

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.folder.path().join("bench.sqlite")
    }

    fn open(&self) -> Result<Connection> {
        let connection = Connection::open(self.path())?;
        connection.busy_timeout(Duration::from_secs(60))?;
        connection.execute_batch(SETTINGS)?;
        Ok(connection)
    }
}

impl Peer for Sqlite {
    fn connect<'b>(&self, batches: &'b [Batch]) -> Result<Box<dyn Session + Send + 'b>> {
        Ok(Box::new(Batches { connection: self.open()?, batches }))
    }

    fn counted(&self) -> Result<u64> {
        let count: i64 =
            self.open()?.query_row("SELECT coalesce(sum(count), 0) FROM state", [], |row| row.get(0))?;
        Ok(u64::try_from(count)?)
    }
}

struct Batches<'b> {
    connection: Connection,
    batches: &'b [Batch],
}

impl Session for Batches<'_> {
    fn send(&mut self, number: usize, id: u64) -> Result<()> {
        let batch = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let is_new =
            batch.prepare_cached("INSERT OR IGNORE INTO batches VALUES (?1)")?.execute([id as i64])?;
        if is_new == 1 {
            let mut find = batch.prepare_cached("SELECT id FROM points WHERE path = ?1")?;
            let mut keep = batch.prepare_cached("INSERT INTO journal VALUES (?1, ?2, ?3)")?;
            let mut count = batch.prepare_cached(
                "INSERT INTO state VALUES (?1, 1, ?3, ?2) ON CONFLICT (point) DO UPDATE \
                 SET count = count + 1, sum = sum + excluded.sum, at = excluded.at",
            )?;
            for (point, at, value) in self.batches[number].rows() {
                let point: i64 = find.query_row([point], |row| row.get(0))?;
                keep.execute(params![point, at, value])?;
                count.execute(params![point, at, value])?;
            }
        }
        Ok(batch.commit()?)
    }
}
