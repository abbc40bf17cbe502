//! Brings a database to the schema that this program knows: numbered files, forward only, each in a
//! transaction of its own.

use super::engine::{Database, Db, DbError, Tx, args, repeatable};
use super::{Result, StoreError};

/// The files. Versions 1 to 3 were Knitfab's.
const MIGRATIONS: &[(i64, &str)] = &[
    (4, include_str!("../../migrations/0004.sql")),
    (5, include_str!("../../migrations/0005.sql")),
    (6, include_str!("../../migrations/0006.sql")),
    (7, include_str!("../../migrations/0007.sql")),
];
/// The version of the last file.
pub(super) const NEWEST: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;
const KNITFAB: std::ops::RangeInclusive<i64> = 1..=3;
/// What PostgreSQL needs before the first file.
const POSTGRES_FIRST: &str = include_str!("../../migrations/postgres.sql");

const MAKE_VERSION: &str = "create table if not exists schema_version (version bigint not null)";
const VERSION: &str = "select coalesce(max(version), 0) from schema_version";
const FORGET_VERSION: &str = "delete from schema_version";
const SET_VERSION: &str = "insert into schema_version (version) values ($1)";

/// Applies what is missing. Refuses a database that is newer than this program.
pub(super) async fn migrate(db: &Database) -> Result<()> {
    let mut changed = false;
    for (version, text) in MIGRATIONS {
        let found = repeatable!("migrating the database", apply(db, *version, text))?;
        if found > NEWEST {
            return Err(StoreError::TooNew { found, known: NEWEST });
        }
        // What is new is left without figures: PostgreSQL takes a table that it has none of for a small one, and one
        // that was empty when it took them for an empty one, which it then reads whole to find anything, also when it
        // has long grown.
        changed |= found > 0 && found < *version;
    }
    analyze(db, changed).await.map_err(|error| error.during("analyzing the database"))
}

/// Applies one file unless it was applied before; the version that was found.
async fn apply(db: &Database, version: i64, text: &str) -> Db<i64> {
    let mut tx = db.begin().await?;
    tx.lock_migrations().await?;
    tx.exec(MAKE_VERSION, &[]).await?;
    let found = tx.row(VERSION, &[]).await?.map_or(Ok(0), |row| row.int(0))?;
    if KNITFAB.contains(&found) {
        let cause = format!("it is a database of Knitfab (schema version {found}): give Knit a database of its own");
        return Err(DbError::other(cause));
    }
    if found < version {
        let first = tx.choose("", POSTGRES_FIRST);
        tx.script(format!("{first}{}", in_the_words_of(&tx, text))).await?;
        tx.exec(FORGET_VERSION, &[]).await?;
        tx.exec(SET_VERSION, args![version]).await?;
        tx.commit().await?;
    }
    Ok(found)
}

/// A file with its words in braces replaced: the few things that the two databases do not say alike.
fn in_the_words_of(tx: &Tx, text: &str) -> String {
    [
        ("{wr}", "without rowid", ""),
        ("{bytes}", "", "collate \"C\""),
        ("{blob}", "blob", "bytea"),
        ("{element}", "j.value", "j.value #>> '{}'"),
        ("{postgres}", "--", ""),
    ]
    .iter()
    .fold(text.to_owned(), |text, (word, sqlite, postgres)| text.replace(word, tx.choose(sqlite, postgres)))
}

/// Without true figures about its tables a database chooses bad ways through them. PostgreSQL takes them by itself
/// from time to time, and here when tables were `changed`; SQLite only when it is told to.
pub(super) async fn analyze(db: &Database, changed: bool) -> Db<()> {
    if let Database::Sqlite { .. } = db {
        return db.take_figures().await;
    }
    let mut tx: Tx = db.begin().await?;
    if changed {
        tx.script("analyze".to_owned()).await?;
    }
    tx.commit().await
}
