//! The one place that knows two databases: connections, rows, transactions, and the few things that
//! SQLite and PostgreSQL do not say alike. Everything else in the store is one statement text for both.
//!
//! SQLite has one connection that writes (its pool is the queue of writers) and a few that read.

use super::StoreError;
use crate::private;
use bytes::Bytes;
use serde::Serialize;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPool, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Postgres, Row as _, Sqlite, Transaction, TypeInfo as _};
use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

const READERS: u32 = 4;
const POSTGRES_CONNECTIONS: u32 = 16;
/// More than there are statements, so that none is ever prepared twice on one connection.
const PREPARED_STATEMENTS: usize = 512;
/// Names the advisory lock that stands for [`Gate`]; any number that nobody else uses.
const GATE_LOCK: i64 = 0x6b6e_6974;
/// For statements that follow rows from one to the next. PostgreSQL takes every such walk for a long one, and would
/// rather read whole tables than go by indexes.
pub(super) const WALK: &str =
    "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off";
/// Names the advisory lock of those who migrate.
const MIGRATION_LOCK: i64 = GATE_LOCK + 1;

/// Why a statement did not work.
#[derive(Debug)]
pub(super) struct DbError {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Another transaction was in the way; the same work may well succeed now.
    Collision,
    Full,
    Other,
}

impl DbError {
    /// Something in the database that should not be there.
    pub(super) fn other(message: impl Into<String>) -> Self {
        Self { kind: Kind::Other, message: message.into() }
    }

    /// True when doing the whole transaction again may succeed.
    pub(super) fn may_pass(&self) -> bool {
        self.kind == Kind::Collision
    }

    /// The same error, with what it happened on.
    pub(super) fn about(self, object: &str) -> Self {
        Self { message: format!("{object}: {}", self.message), ..self }
    }

    /// The error as callers of the store see it.
    pub(super) fn during(self, what: &'static str) -> StoreError {
        match self.kind {
            Kind::Full => StoreError::NoSpace,
            Kind::Collision | Kind::Other => StoreError::Failed { what, cause: self.message },
        }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        let Some(told) = error.as_database_error() else {
            return Self::other(error.to_string());
        };
        // Codes of five characters are PostgreSQL's, numbers SQLite's (the low byte is the kind).
        let code = told.code().unwrap_or_default();
        let kind = match code.as_ref() {
            // Deadlock, serialization failure; a row referred to that another transaction removed.
            "40P01" | "40001" | "23503" => Kind::Collision,
            "53100" => Kind::Full,
            number if number.len() < 5 && number.parse::<i32>().is_ok_and(|n| n & 0xff == 13) => Kind::Full,
            _ => Kind::Other,
        };
        Self { kind, message: told.message().to_owned() }
    }
}

/// What the statements of this file give.
pub(super) type Db<T> = Result<T, DbError>;

/// Does a whole transaction, again if another one was in its way, and says what was being done if it fails.
macro_rules! whole {
    ($what:expr, $attempt:expr) => {{
        let mut tries = 1;
        loop {
            match $attempt.await {
                Err(error) if error.may_pass() && tries < 3 => tries += 1,
                outcome => break outcome.map_err(|error| error.during($what)),
            }
        }
    }};
}
pub(super) use whole;

/// A parameter of a statement.
#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Int(Option<i64>),
    Text(Option<Cow<'a, str>>),
    Bytes(&'a [u8]),
}

impl From<i64> for Value<'_> {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}
impl From<Option<i64>> for Value<'_> {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}
impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Self::Text(Some(storable(value)))
    }
}
impl<'a> From<&'a [u8]> for Value<'a> {
    fn from(value: &'a [u8]) -> Self {
        Self::Bytes(value)
    }
}
impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Self::Text(Some(Cow::Owned(if value.contains('\0') { storable(&value).into_owned() } else { value })))
    }
}
impl<'a> From<&'a String> for Value<'a> {
    fn from(value: &'a String) -> Self {
        Self::from(value.as_str())
    }
}
impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(value: Option<&'a str>) -> Self {
        Self::Text(value.map(storable))
    }
}

/// The parameters of a statement, each turned into a [`Value`].
macro_rules! args {
    ($($value:expr),* $(,)?) => { &[$($crate::store::engine::Value::from($value)),*] };
}
pub(super) use args;

/// No text in PostgreSQL holds a NUL character; what does comes from outside (a program's last words,
/// an id in a URL) and never equals anything stored.
fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// Rows as one JSON parameter: a list of lists, read with `json_each($1) j` and `j.value ->> 0`.
pub(super) fn batch<'a, const N: usize>(rows: impl IntoIterator<Item = [&'a str; N]>) -> String
where
    [Cow<'a, str>; N]: Serialize,
{
    let rows: Vec<[Cow<'a, str>; N]> = rows.into_iter().map(|row| row.map(storable)).collect();
    serde_json::to_string(&rows).expect("lists of texts always have a JSON form")
}

/// A column of rows as one JSON parameter: [`batch`] of lists of one.
pub(super) fn list<T: AsRef<str>>(ids: impl IntoIterator<Item = T>) -> String {
    let rows: Vec<[T; 1]> = ids.into_iter().map(|id| [id]).collect();
    batch(rows.iter().map(|[id]| [id.as_ref()]))
}

/// A row of an answer; columns by position.
pub(super) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// A whole number that may be missing, however wide its column is.
    pub(super) fn opt_int(&self, column: usize) -> Db<Option<i64>> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => match row.try_column(column)?.type_info().name() {
                "INT2" => row.try_get::<Option<i16>, _>(column)?.map(i64::from),
                "INT4" => row.try_get::<Option<i32>, _>(column)?.map(i64::from),
                _ => row.try_get(column)?,
            },
        })
    }

    /// A whole number.
    pub(super) fn int(&self, column: usize) -> Db<i64> {
        self.opt_int(column)?.ok_or_else(|| DbError::other(format!("column {column} of an answer is empty")))
    }

    /// A text that may be missing.
    pub(super) fn opt_text(&self, column: usize) -> Db<Option<String>> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// A text.
    pub(super) fn text(&self, column: usize) -> Db<String> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// Bytes.
    pub(super) fn bytes(&self, column: usize) -> Db<Bytes> {
        let bytes: Vec<u8> = match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        };
        Ok(bytes.into())
    }

    /// A text that is read as something else.
    pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&self, column: usize) -> Db<T> {
        self.text(column)?.parse().map_err(|error: T::Err| DbError::other(error.to_string()))
    }
}

macro_rules! query {
    ($sql:expr, $args:expr) => {
        $args.iter().fold(sqlx::query($sql), |query, value| match value {
            Value::Int(number) => query.bind(*number),
            Value::Text(text) => query.bind(text.as_deref()),
            Value::Bytes(bytes) => query.bind(*bytes),
        })
    };
}

macro_rules! fetch {
    ($sql:expr, $args:expr, $from:expr, $row:expr) => {
        query!($sql, $args).fetch_all($from).await?.into_iter().map($row).collect()
    };
}

/// A transaction. Dropping it undoes it.
pub(super) enum Tx {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// How a transaction passes the gate between those who change Data and those who register Plans: without
/// it, of a Data and a Plan that arrive at once neither would see the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Data may begin or cease to match: beside each other.
    Data,
    /// Inputs are added: alone.
    Plans,
}

impl Tx {
    /// Runs a statement; how many rows it changed.
    pub(super) async fn exec(&mut self, sql: &'static str, args: &[Value<'_>]) -> Db<u64> {
        Ok(match self {
            Self::Sqlite(tx) => query!(sql, args).execute(&mut **tx).await?.rows_affected(),
            Self::Postgres(tx) => query!(sql, args).execute(&mut **tx).await?.rows_affected(),
        })
    }

    /// Runs a statement; the rows it gives.
    pub(super) async fn rows(&mut self, sql: &'static str, args: &[Value<'_>]) -> Db<Vec<Row>> {
        Ok(match self {
            Self::Sqlite(tx) => fetch!(sql, args, &mut **tx, Row::Sqlite),
            Self::Postgres(tx) => fetch!(sql, args, &mut **tx, Row::Postgres),
        })
    }

    /// Runs a statement; the first row it gives.
    pub(super) async fn row(&mut self, sql: &'static str, args: &[Value<'_>]) -> Db<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Runs many statements without parameters, as a migration has them.
    pub(super) async fn script(&mut self, sql: String) -> Db<()> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql));
        match self {
            Self::Sqlite(tx) => script.execute(&mut **tx).await.map(|_| ())?,
            Self::Postgres(tx) => script.execute(&mut **tx).await.map(|_| ())?,
        }
        Ok(())
    }

    /// Passes the gate: after tags are interned and before any row is locked. On SQLite the only writer is
    /// the gate.
    pub(super) async fn gate(&mut self, gate: Gate) -> Db<()> {
        if let Self::Postgres(_) = self {
            let sql = match gate {
                Gate::Data => "select 1 from (select pg_advisory_xact_lock_shared($1)) x",
                Gate::Plans => "select 1 from (select pg_advisory_xact_lock($1)) x",
            };
            self.rows(sql, args![GATE_LOCK]).await?;
        }
        Ok(())
    }

    /// Begins to walk: see [`WALK`].
    pub(super) async fn walk(&mut self) -> Db<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(_) => self.script(WALK.to_owned()).await,
        }
    }

    /// Waits for other processes that migrate the same database.
    pub(super) async fn lock_migrations(&mut self) -> Db<()> {
        if let Self::Postgres(_) = self {
            self.rows("select 1 from (select pg_advisory_xact_lock($1)) x", args![MIGRATION_LOCK]).await?;
        }
        Ok(())
    }

    /// Of two texts, the one for this database. For the few statements where one text is not enough.
    pub(super) fn choose<T>(&self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }

    /// Makes it true and durable.
    pub(super) async fn commit(self) -> Db<()> {
        match self {
            Self::Sqlite(tx) => tx.commit().await?,
            Self::Postgres(tx) => tx.commit().await?,
        }
        Ok(())
    }
}

/// Closes the database's files to other users. SQLite gives the files it makes beside the database the
/// database's mode; those of an earlier process are closed by themselves.
fn keep_private(path: &Path) -> std::io::Result<()> {
    for suffix in ["-wal", "-shm", "-journal"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        private::close(Path::new(&beside))?;
    }
    match private::file(path) {
        // The database says this in its own words.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// A database with its connections; cheap to clone.
#[derive(Clone, Debug)]
pub(super) enum Database {
    Sqlite { write: SqlitePool, read: SqlitePool },
    Postgres(PgPool),
}

/// Whether a connection can begin a transaction; else the pool replaces it. On a full disk SQLite undoes
/// a transaction by itself, and then it refuses the driver's own request to undo it, which leaves the driver
/// believing for ever that the transaction goes on.
async fn is_fit(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // One that was dropped is undone behind everything else that the connection was asked to do.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

impl Database {
    /// Opens the file, making it if need be; only its owner may read it.
    pub(super) async fn open_sqlite(path: &Path) -> Db<Self> {
        keep_private(path).map_err(|error| DbError::other(error.to_string()))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(PREPARED_STATEMENTS)
            .pragma("cache_size", "-65536")
            .pragma("temp_store", "memory")
            .pragma("mmap_size", "268435456");
        // Connections live as long as the process, so that their caches stay warm.
        let pool = |size| {
            PoolOptions::new()
                .max_connections(size)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
                .before_acquire(|connection, _| Box::pin(is_fit(connection)))
        };
        let write = pool(1).connect_with(options.clone()).await?;
        let read = pool(READERS).connect_with(options.pragma("query_only", "1")).await?;
        Ok(Self::Sqlite { write, read })
    }

    /// Connects to a server by its URL.
    pub(super) async fn open_postgres(url: &str) -> Db<Self> {
        // Compiling such short statements at run time never pays.
        let options: PgConnectOptions = url.parse()?;
        let options =
            options.application_name("knitd").statement_cache_capacity(PREPARED_STATEMENTS).options([("jit", "off")]);
        Ok(Self::Postgres(PoolOptions::new().max_connections(POSTGRES_CONNECTIONS).connect_with(options).await?))
    }

    /// Begins a transaction that writes. Nothing but the store may be waited for until it ends.
    pub(super) async fn begin(&self) -> Db<Tx> {
        Ok(match self {
            Self::Sqlite { write, .. } => Tx::Sqlite(write.begin_with("begin immediate").await?),
            Self::Postgres(pool) => Tx::Postgres(pool.begin().await?),
        })
    }

    /// Begins a transaction that only reads, everything as of one moment.
    pub(super) async fn begin_reading(&self) -> Db<Tx> {
        Ok(match self {
            Self::Sqlite { read, .. } => Tx::Sqlite(read.begin().await?),
            Self::Postgres(pool) => {
                Tx::Postgres(pool.begin_with("begin isolation level repeatable read, read only").await?)
            }
        })
    }

    /// Runs one statement that only reads; the rows it gives.
    pub(super) async fn rows(&self, sql: &'static str, args: &[Value<'_>]) -> Db<Vec<Row>> {
        Ok(match self {
            Self::Sqlite { read, .. } => fetch!(sql, args, read, Row::Sqlite),
            Self::Postgres(pool) => fetch!(sql, args, pool, Row::Postgres),
        })
    }

    /// Runs one statement that only reads; the first row it gives.
    pub(super) async fn row(&self, sql: &'static str, args: &[Value<'_>]) -> Db<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Takes figures about the tables of SQLite, from a small part of them, which is quick; those of tables that are
    /// still small are forgotten. It would go on reading such a table whole when it has long grown, while without
    /// figures it takes every table for a large one. This is done on a connection of its own, because one that has
    /// once seen figures keeps them in mind; making their table anew lets the others look at it again.
    pub(super) async fn take_figures(&self) -> Db<()> {
        const TAKE: &str = "pragma analysis_limit = 400; begin immediate; drop table if exists sqlite_stat1; \
            analyze; delete from sqlite_stat1 where cast(stat as integer) < 1000; commit";
        if let Self::Sqlite { write, .. } = self {
            let mut connection = SqliteConnection::connect_with(&write.connect_options()).await?;
            sqlx::raw_sql(TAKE).execute(&mut connection).await?;
            connection.close().await?;
        }
        Ok(())
    }

    /// Closes all connections after what is under way.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_transaction_that_sqlite_undid_by_itself_does_not_keep_others_from_writing() {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open_sqlite(&folder.path().join("db")).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        tx.exec("create table t (n integer)", &[]).await.unwrap();
        tx.commit().await.unwrap();

        let mut tx = db.begin().await.unwrap();
        tx.exec("insert into t values (1)", &[]).await.unwrap();
        // What SQLite does when the disk is full, behind the driver's back.
        tx.exec("rollback", &[]).await.unwrap();
        drop(tx);

        let mut tx = db.begin().await.unwrap();
        tx.exec("insert into t values (2)", &[]).await.unwrap();
        tx.commit().await.unwrap();
        let rows = db.rows("select n from t", &[]).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.int(0).unwrap()).collect::<Vec<_>>(), [2]);
    }
}
