//! The table of capitals.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::seed;

/// The greatest number of rows in one list.
pub const PAGE: u32 = 50;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS capitol (
    id INTEGER PRIMARY KEY,
    country TEXT NOT NULL,
    city TEXT NOT NULL
) STRICT";

/// A capital as it is stored, borrowed from the statement that reads it.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Capitol<'a> {
    /// Row number, from 1.
    pub id: i64,
    /// Country.
    pub country: &'a str,
    /// Its capital.
    pub city: &'a str,
}

/// What a client sends to insert or to update.
#[derive(Clone, Debug, Deserialize)]
pub struct NewCapitol {
    /// Country.
    pub country: String,
    /// Its capital.
    pub city: String,
}

/// The database behind one lock.
///
/// A statement on a warm page cache takes some microseconds, so one connection is enough for
/// both workers, and `:memory:` (which is private to its connection) behaves like a file. The
/// lock is never held across an await.
pub struct Store {
    connection: Mutex<Connection>,
}

impl Store {
    /// Opens or creates a database, and fills it when it is empty.
    ///
    /// # Errors
    ///
    /// Whatever SQLite says about the file.
    pub fn open(file: &Path) -> rusqlite::Result<Self> {
        Self::prepare(Connection::open(file)?)
    }

    /// A database that lives and dies with this process.
    ///
    /// # Errors
    ///
    /// Whatever SQLite says.
    pub fn in_memory() -> rusqlite::Result<Self> {
        Self::prepare(Connection::open_in_memory()?)
    }

    fn prepare(mut connection: Connection) -> rusqlite::Result<Self> {
        // A memory database answers `memory` here and keeps no log at all. Nobody needs the rows
        // after a power cut, and a checkpoint that waits for the disk would be a stall in the
        // middle of a measurement: hence no synchronisation.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        let transaction = connection.transaction()?;
        transaction.execute(SCHEMA, [])?;
        let empty = transaction
            .query_row("SELECT 1 FROM capitol LIMIT 1", [], |_| Ok(()))
            .optional()?
            .is_none();
        if empty {
            let mut insert =
                transaction.prepare("INSERT INTO capitol (country, city) VALUES (?1, ?2)")?;
            for row in seed::CAPITOLS {
                insert.execute(row)?;
            }
        }
        transaction.commit()?;
        Ok(Self {
            connection: Mutex::new(connection),
        })
    }

    /// Shows up to `limit` rows (and never more than [`PAGE`]) with an id greater than `after`,
    /// in the order of their ids.
    ///
    /// # Errors
    ///
    /// Whatever SQLite says.
    pub fn list(
        &self,
        after: i64,
        limit: u32,
        mut show: impl FnMut(Capitol<'_>),
    ) -> rusqlite::Result<()> {
        let connection = self.lock();
        let mut select = connection.prepare_cached(
            "SELECT id, country, city FROM capitol WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let mut rows = select.query(params![after, limit.min(PAGE)])?;
        while let Some(row) = rows.next()? {
            show(Capitol::read(row)?);
        }
        Ok(())
    }

    /// Shows one row; false when there is none.
    ///
    /// # Errors
    ///
    /// Whatever SQLite says.
    pub fn get(&self, id: i64, show: impl FnOnce(Capitol<'_>)) -> rusqlite::Result<bool> {
        let connection = self.lock();
        let mut select =
            connection.prepare_cached("SELECT id, country, city FROM capitol WHERE id = ?1")?;
        let mut rows = select.query([id])?;
        let Some(row) = rows.next()? else {
            return Ok(false);
        };
        show(Capitol::read(row)?);
        Ok(true)
    }

    /// Adds a row and returns its id.
    ///
    /// # Errors
    ///
    /// Whatever SQLite says.
    pub fn insert(&self, new: &NewCapitol) -> rusqlite::Result<i64> {
        let connection = self.lock();
        connection
            .prepare_cached("INSERT INTO capitol (country, city) VALUES (?1, ?2)")?
            .insert(params![new.country, new.city])
    }

    /// Overwrites a row; false when there is none.
    ///
    /// # Errors
    ///
    /// Whatever SQLite says.
    pub fn update(&self, id: i64, new: &NewCapitol) -> rusqlite::Result<bool> {
        let connection = self.lock();
        let changed = connection
            .prepare_cached("UPDATE capitol SET country = ?2, city = ?3 WHERE id = ?1")?
            .execute(params![id, new.country, new.city])?;
        Ok(changed > 0)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic under the lock leaves no half-done statement behind: SQLite rolls it back.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Capitol<'a> {
    fn read(row: &'a Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            country: row.get_ref(1)?.as_str()?,
            city: row.get_ref(2)?.as_str()?,
        })
    }
}
