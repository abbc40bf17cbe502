//! Signals between the processes of one PostgreSQL database: short texts that everyone hears who listens when they are
//! told. They are told outside of transactions: inside, each would wait for all others to end.

use super::engine::whole;
use super::{Result, Store};
use sqlx::postgres::PgListener;

/// Hears what processes tell each other, on a connection of its own.
#[derive(Debug)]
pub struct Listener(PgListener);

impl Store {
    /// Tells all who listen, this process among them; on SQLite there is nobody.
    pub async fn tell(&self, text: &str) -> Result<()> {
        whole!("telling other processes", self.db.notify(text))
    }

    /// Begins to listen; none on SQLite.
    pub async fn listen(&self) -> Result<Option<Listener>> {
        let listening = self.db.listen().await.map_err(|error| error.during("listening to other processes"))?;
        Ok(listening.map(Listener))
    }
}

impl Listener {
    /// The next text. After an error nothing more is heard, and something may have been missed.
    pub async fn next(&mut self) -> Result<String, String> {
        match self.0.try_recv().await {
            Ok(Some(heard)) => Ok(heard.payload().to_owned()),
            Ok(None) => Err("the connection to the database broke".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }
}
