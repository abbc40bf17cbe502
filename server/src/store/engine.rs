//! The one place that knows two databases: connections, rows, transactions, and the few things that
//! SQLite and PostgreSQL do not say alike. Everything else in the store is one statement text for both.
//!
//! SQLite has one connection that writes (its pool is the queue of writers) and a few that read.

use super::StoreError;
use crate::clock::Stopwatch;
use crate::private;
use bytes::Bytes;
use serde::Serialize;
use sqlx::pool::PoolOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPool, PgRow};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Column as _, Connection as _, Postgres, Row as _, Sqlite, Transaction, TypeInfo as _};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const READERS: u32 = 4;
/// More than there are statements, so that none is ever prepared twice on one connection.
const PREPARED_STATEMENTS: usize = 512;
/// How long a free connection is waited for, or a new one, when PostgreSQL does not answer.
const ACQUIRE: Duration = Duration::from_secs(10);
/// How long a statement may take on PostgreSQL before the server ends it.
const STATEMENT: Duration = Duration::from_mins(1);
/// How much longer its answer is waited for: a server that is gone does not say so.
const ANSWER: Duration = Duration::from_secs(5);
/// A connection that was left alone for so long is asked whether it still works before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// What PostgreSQL is told for each connection. Compiling such short statements at run time never pays. Every hot
/// statement has its index; but as long as figures about a table are older than most of its rows, PostgreSQL takes it
/// for a small one and would rather read it whole, for each row that refers to it anew. A process
/// that died, or whose machine did, does not hold its locks for longer than these.
const SESSION: [(&str, &str); 8] = [
    ("jit", "off"),
    ("enable_seqscan", "off"),
    ("statement_timeout", "60s"),
    ("idle_in_transaction_session_timeout", "20s"),
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    // Its notices say what is as it should be: that a table is there already.
    ("client_min_messages", "warning"),
];
/// What processes tell each other is told there.
const CHANNEL: &str = "knit";
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
pub(super) enum Kind {
    /// Another transaction was in the way; the same work may well succeed now.
    Collision,
    /// The database does not answer, or the connection to it broke before the transaction was to become true:
    /// nothing of it is.
    Lost,
    /// The pool had no connection to give, and does not say why.
    NoConnection,
    /// The connection broke while the transaction was becoming true: it may be, or not.
    Unsure,
    Full,
    Other,
}

impl DbError {
    /// Something in the database that should not be there.
    pub(super) fn other(message: impl Into<String>) -> Self {
        Self { kind: Kind::Other, message: message.into() }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The same error, with what it happened on.
    pub(super) fn about(self, object: &str) -> Self {
        Self { message: format!("{object}: {}", self.message), ..self }
    }

    /// The same error of a transaction that was to become true.
    fn at_commit(self) -> Self {
        let kind = if matches!(self.kind, Kind::Lost | Kind::NoConnection) { Kind::Unsure } else { self.kind };
        Self { kind, ..self }
    }

    /// The error as callers of the store see it.
    pub(super) fn during(self, what: &'static str) -> StoreError {
        match self.kind {
            Kind::Full => StoreError::NoSpace,
            Kind::Lost | Kind::NoConnection => StoreError::Unavailable { cause: self.message },
            Kind::Unsure => StoreError::Unsure { what, cause: self.message },
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
            // The server stops, has crashed, starts, or is out of connections; it ended a connection that was left alone.
            "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25P03" => Kind::Lost,
            "53100" => Kind::Full,
            broken if broken.len() == 5 && broken.starts_with("08") => Kind::Lost,
            number if number.len() < 5 && number.parse::<i32>().is_ok_and(|n| n & 0xff == 13) => Kind::Full,
            _ => Kind::Other,
        };
        Self { kind, message: told.message().to_owned() }
    }
}

/// What the statements of this file give.
pub(super) type Db<T> = Result<T, DbError>;

/// What is done twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twice {
    /// Only what is known to have had no effect.
    WithoutEffect,
    /// Also what may have become true: a second time changes nothing, and gives the same answer.
    Same,
}

/// Decides whether a transaction that did not work is tried again.
pub(super) struct Tries {
    twice: Twice,
    /// Whether one try may have become true.
    unsure: bool,
    collisions: u32,
    breaks: u32,
    begun: Stopwatch,
}

impl Tries {
    pub(super) fn new(twice: Twice) -> Self {
        Self { twice, unsure: false, collisions: 0, breaks: 0, begun: Stopwatch::start() }
    }

    /// True when it is worth another try, after a pause for a database that does not answer.
    pub(super) async fn again(&mut self, error: &DbError) -> bool {
        /// Tries of work that others are in the way of.
        const MOST: u32 = 3;
        /// How long a database is waited for that does not answer: longer than it takes to restart.
        const PATIENCE: Duration = ACQUIRE;
        self.unsure |= error.kind() == Kind::Unsure;
        match error.kind() {
            Kind::Collision => {
                self.collisions += 1;
                self.collisions < MOST
            }
            Kind::Unsure if self.twice == Twice::WithoutEffect => false,
            Kind::Lost | Kind::NoConnection | Kind::Unsure => {
                let pause = Duration::from_millis(10 << self.breaks.min(6));
                self.breaks += 1;
                let worth = self.begun.elapsed() + pause < PATIENCE;
                if worth {
                    tokio::time::sleep(pause).await;
                }
                worth
            }
            Kind::Full | Kind::Other => false,
        }
    }

    /// The last error, in the light of those before it.
    pub(super) fn verdict(&self, error: DbError) -> DbError {
        if self.unsure { error.at_commit() } else { error }
    }
}

/// Does a whole transaction, again if it is known to have had no effect (another one was in its way, the connection
/// broke before its end), and says what was being done if it fails.
macro_rules! whole {
    ($what:expr, $attempt:expr) => {
        $crate::store::engine::whole!($what, $attempt, $crate::store::engine::Twice::WithoutEffect)
    };
    ($what:expr, $attempt:expr, $twice:expr) => {{
        let mut tries = $crate::store::engine::Tries::new($twice);
        loop {
            match $attempt.await {
                Err(error) => {
                    if !tries.again(&error).await {
                        break Err(tries.verdict(error).during($what));
                    }
                }
                Ok(done) => break Ok(done),
            }
        }
    }};
}
pub(super) use whole;

/// Does a whole transaction as [`whole`] does, and also again if the connection broke while it was becoming true: only
/// for one that changes nothing and gives the same answer when it is done a second time.
macro_rules! repeatable {
    ($what:expr, $attempt:expr) => {
        $crate::store::engine::whole!($what, $attempt, $crate::store::engine::Twice::Same)
    };
}
pub(super) use repeatable;

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
pub(super) struct Tx {
    on: On,
    /// It changes nothing: whether its end was heard of does not matter.
    reads: bool,
}

enum On {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>, Arc<Server>),
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
        match &mut self.on {
            On::Sqlite(tx) => Ok(query!(sql, args).execute(&mut **tx).await?.rows_affected()),
            On::Postgres(tx, server) => {
                server.answers(async { Ok(query!(sql, args).execute(&mut **tx).await?.rows_affected()) }).await
            }
        }
    }

    /// Runs a statement; the rows it gives.
    pub(super) async fn rows(&mut self, sql: &'static str, args: &[Value<'_>]) -> Db<Vec<Row>> {
        match &mut self.on {
            On::Sqlite(tx) => Ok(fetch!(sql, args, &mut **tx, Row::Sqlite)),
            On::Postgres(tx, server) => server.answers(async { Ok(fetch!(sql, args, &mut **tx, Row::Postgres)) }).await,
        }
    }

    /// Runs a statement; the first row it gives.
    pub(super) async fn row(&mut self, sql: &'static str, args: &[Value<'_>]) -> Db<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Runs many statements without parameters, as a migration has them, however long that takes.
    pub(super) async fn script(&mut self, sql: String) -> Db<()> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql));
        match &mut self.on {
            On::Sqlite(tx) => script.execute(&mut **tx).await.map(|_| ())?,
            On::Postgres(tx, server) => {
                script.execute(&mut **tx).await.map(|_| ()).map_err(|error| server.told(error))?;
            }
        }
        Ok(())
    }

    /// Passes the gate: after tags are interned and before any row is locked. On SQLite the only writer is
    /// the gate.
    pub(super) async fn gate(&mut self, gate: Gate) -> Db<()> {
        if let On::Postgres(..) = self.on {
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
        match self.on {
            On::Sqlite(_) => Ok(()),
            On::Postgres(..) => self.script(WALK.to_owned()).await,
        }
    }

    /// Waits for other processes that migrate the same database, however long they take.
    pub(super) async fn lock_migrations(&mut self) -> Db<()> {
        if let On::Postgres(..) = self.on {
            let wait = format!("set local statement_timeout = 0; select pg_advisory_xact_lock({MIGRATION_LOCK})");
            self.script(wait).await?;
        }
        Ok(())
    }

    /// Of two texts, the one for this database. For the few statements where one text is not enough.
    pub(super) fn choose<T>(&self, sqlite: T, postgres: T) -> T {
        match self.on {
            On::Sqlite(_) => sqlite,
            On::Postgres(..) => postgres,
        }
    }

    /// Makes it true and durable.
    pub(super) async fn commit(self) -> Db<()> {
        match self.on {
            On::Sqlite(tx) => Ok(tx.commit().await?),
            On::Postgres(tx, server) => {
                let outcome = server.answers(tx.commit()).await;
                if self.reads { outcome } else { outcome.map_err(DbError::at_commit) }
            }
        }
    }
}

/// The PostgreSQL server, for whoever has to be told that it does not answer: without the password.
#[derive(Debug)]
pub(super) struct Server {
    address: String,
}

impl Server {
    fn of(options: &PgConnectOptions) -> Self {
        let address = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        Self { address }
    }

    /// What the driver said; that the server does not answer is said of this server.
    fn told(&self, error: sqlx::Error) -> DbError {
        if let sqlx::Error::PoolTimedOut = error {
            return DbError { kind: Kind::NoConnection, message: error.to_string() };
        }
        let broken = matches!(error, sqlx::Error::Io(_));
        let error = DbError::from(error);
        if broken || error.kind == Kind::Lost { self.silent(&error.message) } else { error }
    }

    fn silent(&self, cause: &str) -> DbError {
        DbError { kind: Kind::Lost, message: format!("the database at {} does not answer: {cause}", self.address) }
    }

    /// Waits for an answer, no longer than the server may take and a little.
    async fn answers<T>(&self, answer: impl Future<Output = Result<T, sqlx::Error>>) -> Db<T> {
        match tokio::time::timeout(STATEMENT + ANSWER, answer).await {
            Ok(answer) => answer.map_err(|error| self.told(error)),
            Err(_) => Err(self.silent("it was silent for more than a minute")),
        }
    }
}

/// Begins a transaction even when nobody waits for it any more; then it is undone. A beginning that is cut off is not:
/// its connection would go back to the others with a transaction open, and the next statements would be part of that.
async fn to_its_end<T: Send + 'static>(
    beginning: impl Future<Output = Result<T, sqlx::Error>> + Send + 'static,
) -> Result<T, sqlx::Error> {
    tokio::spawn(beginning).await.unwrap_or_else(|ended| Err(sqlx::Error::Protocol(ended.to_string())))
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
    Postgres(PgPool, Arc<Server>),
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

    /// Connects to a server by its URL, with at most so many connections. A server that is just starting is waited for.
    pub(super) async fn open_postgres(url: &str, connections: u32) -> Db<Self> {
        let options: PgConnectOptions = url.parse().map_err(|error| DbError::other(format!("the URL: {error}")))?;
        let options = options.application_name("knitd").statement_cache_capacity(PREPARED_STATEMENTS).options(SESSION);
        let server = Server::of(&options);
        let mut tries = Tries::new(Twice::WithoutEffect);
        loop {
            match welcome(&options, &server).await {
                Err(error) if tries.again(&error).await => {}
                welcomed => break welcomed?,
            }
        }
        let pool = PoolOptions::<Postgres>::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE)
            .test_before_acquire(false)
            .before_acquire(|connection, about| {
                Box::pin(async move {
                    if about.idle_for > TRUSTED {
                        let silent = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
                        tokio::time::timeout(ANSWER, connection.ping()).await.map_err(silent)??;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options);
        Ok(Self::Postgres(pool, Arc::new(server)))
    }

    /// Begins a transaction that writes. Nothing but the store may be waited for until it ends.
    pub(super) async fn begin(&self) -> Db<Tx> {
        let on = match self {
            Self::Sqlite { write, .. } => On::Sqlite(write.begin_with("begin immediate").await?),
            Self::Postgres(pool, server) => {
                let pool = pool.clone();
                let begun = server.answers(to_its_end(async move { pool.begin().await })).await;
                On::Postgres(self.explained(begun).await?, Arc::clone(server))
            }
        };
        Ok(Tx { on, reads: false })
    }

    /// Begins a transaction that only reads, everything as of one moment.
    pub(super) async fn begin_reading(&self) -> Db<Tx> {
        const READING: &str = "begin isolation level repeatable read, read only";
        let on = match self {
            Self::Sqlite { read, .. } => On::Sqlite(read.begin().await?),
            Self::Postgres(pool, server) => {
                let pool = pool.clone();
                let begun = server.answers(to_its_end(async move { pool.begin_with(READING).await })).await;
                On::Postgres(self.explained(begun).await?, Arc::clone(server))
            }
        };
        Ok(Tx { on, reads: true })
    }

    /// Runs one statement that only reads; the rows it gives.
    pub(super) async fn rows(&self, sql: &'static str, args: &[Value<'_>]) -> Db<Vec<Row>> {
        match self {
            Self::Sqlite { read, .. } => Ok(fetch!(sql, args, read, Row::Sqlite)),
            Self::Postgres(pool, server) => {
                let rows = server.answers(async { Ok(fetch!(sql, args, pool, Row::Postgres)) }).await;
                self.explained(rows).await
            }
        }
    }

    /// Runs one statement that only reads; the first row it gives.
    pub(super) async fn row(&self, sql: &'static str, args: &[Value<'_>]) -> Db<Option<Row>> {
        Ok(self.rows(sql, args).await?.into_iter().next())
    }

    /// Of two texts, the one for this database.
    pub(super) fn choose<T>(&self, sqlite: T, postgres: T) -> T {
        match self {
            Self::Sqlite { .. } => sqlite,
            Self::Postgres(..) => postgres,
        }
    }

    /// Tells all who listen on PostgreSQL.
    pub(super) async fn notify(&self, text: &str) -> Db<()> {
        if let Self::Postgres(..) = self {
            self.rows("select 1 from (select pg_notify($1, $2)) x", args![CHANNEL, text]).await?;
        }
        Ok(())
    }

    /// Listens on PostgreSQL, on a connection of its own.
    pub(super) async fn listen(&self) -> Db<Option<PgListener>> {
        let Self::Postgres(pool, server) = self else { return Ok(None) };
        let options = pool.connect_options().as_ref().clone();
        let own = PoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None).acquire_timeout(ACQUIRE);
        let listening = server.answers(async {
            let mut listener = PgListener::connect_with(&own.connect_lazy_with(options)).await?;
            listener.ignore_pool_close_event(true);
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        });
        let listening = listening.await;
        self.explained(listening).await.map(Some)
    }

    /// When no connection was to be had, the pool does not say why: it is found out.
    async fn explained<T>(&self, outcome: Db<T>) -> Db<T> {
        let (Self::Postgres(pool, server), Err(error)) = (self, &outcome) else { return outcome };
        if error.kind != Kind::NoConnection {
            return outcome;
        }
        let options = pool.connect_options();
        let cause = match tokio::time::timeout(ANSWER, PgConnection::connect_with(&options)).await {
            Ok(Ok(connection)) => {
                let _ = connection.close().await;
                format!("all {} connections to it were in use for {} s", pool.size(), ACQUIRE.as_secs())
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it is silent".to_owned(),
        };
        Err(server.silent(&cause))
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

    /// Connections there are, and idle ones among them.
    pub(super) fn connections(&self) -> (u32, u32) {
        let idle = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        match self {
            Self::Sqlite { write, read } => (write.size() + read.size(), idle(write.num_idle() + read.num_idle())),
            Self::Postgres(pool, _) => (pool.size(), idle(pool.num_idle())),
        }
    }

    /// Closes all connections after what is under way.
    pub(super) async fn close(&self) {
        match self {
            Self::Sqlite { write, read } => {
                read.close().await;
                write.close().await;
            }
            Self::Postgres(pool, _) => pool.close().await,
        }
    }
}

/// What a database must be before anything is read in it.
#[derive(Debug)]
struct Host {
    /// As PostgreSQL numbers its versions: 130004 is 13.4.
    version: i64,
    version_name: String,
    encoding: String,
    database: String,
    user: String,
    /// None when no schema of the search path is there.
    schema: Option<String>,
    may_create: bool,
}

impl Host {
    /// Why Knit cannot live there, if so, and what to do.
    fn refusal(&self) -> Option<String> {
        let Self { version_name, encoding, database, user, .. } = self;
        if self.version < 130_000 {
            return Some(format!("it is PostgreSQL {version_name}, and Knit needs 13 or newer: update the server"));
        }
        if encoding != "UTF8" {
            return Some(format!(
                "database {database} has the encoding {encoding}, and Knit needs UTF8: \
                 create database {database} template template0 encoding 'UTF8'"
            ));
        }
        match &self.schema {
            None => Some(format!("no schema of the search path of user {user} is there in database {database}")),
            Some(schema) if !self.may_create => Some(format!(
                "user {user} may not create tables in schema {schema} of database {database}: \
                 grant create, usage on schema {schema} to {user}"
            )),
            Some(_) => None,
        }
    }
}

/// Connects once, to hear why that fails if it does, and refuses a server or a database that Knit cannot live in.
async fn welcome(options: &PgConnectOptions, server: &Server) -> Db<()> {
    const HOST: &str = "select current_setting('server_version_num')::bigint, current_setting('server_version'), \
        current_setting('server_encoding'), current_database()::text, current_user::text, current_schema()::text, \
        coalesce(has_schema_privilege(current_schema(), 'create'), false)";
    let connect = async {
        let mut connection = PgConnection::connect_with(options).await?;
        let row = sqlx::query(HOST).fetch_one(&mut connection).await?;
        connection.close().await?;
        Ok::<_, sqlx::Error>(Host {
            version: row.try_get(0)?,
            version_name: row.try_get(1)?,
            encoding: row.try_get(2)?,
            database: row.try_get(3)?,
            user: row.try_get(4)?,
            schema: row.try_get(5)?,
            may_create: row.try_get(6)?,
        })
    };
    let host = match tokio::time::timeout(ACQUIRE, connect).await {
        Ok(host) => host.map_err(|error| server.told(error))?,
        Err(_) => return Err(server.silent(&format!("it was silent for {} s", ACQUIRE.as_secs()))),
    };
    host.refusal().map_or(Ok(()), |why| Err(DbError::other(format!("the database at {}: {why}", server.address))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

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

    #[tokio::test]
    async fn a_transaction_whose_beginning_is_cut_off_is_not_the_next_ones() {
        let Some(url) = knit_tests::postgres::new_database() else { return };
        let db = Database::open_postgres(&url, 4).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        tx.exec("create table t (n bigint)", &[]).await.unwrap();
        tx.commit().await.unwrap();
        for _ in 0..20 {
            assert!(db.begin_reading().now_or_never().is_none(), "it waits for the server");
            let mut tx = db.begin().await.unwrap();
            tx.exec("insert into t values (1)", &[]).await.unwrap();
            tx.commit().await.unwrap();
        }
        assert_eq!(db.rows("select n from t", &[]).await.unwrap().len(), 20);
    }

    #[test]
    fn servers_and_databases_that_knit_cannot_live_in_are_refused_with_what_to_do() {
        let good = || Host {
            version: 130_000,
            version_name: "13.0".to_owned(),
            encoding: "UTF8".to_owned(),
            database: "knit".to_owned(),
            user: "me".to_owned(),
            schema: Some("public".to_owned()),
            may_create: true,
        };
        assert_eq!(good().refusal(), None);
        for (host, words) in [
            (Host { version: 120_022, version_name: "12.22".to_owned(), ..good() }, "13 or newer"),
            (Host { encoding: "SQL_ASCII".to_owned(), ..good() }, "template template0 encoding 'UTF8'"),
            (Host { schema: None, may_create: false, ..good() }, "search path of user me"),
            (Host { may_create: false, ..good() }, "grant create, usage on schema public to me"),
        ] {
            let refusal = host.refusal().unwrap();
            assert!(refusal.contains(words), "{refusal}");
        }
    }
}
