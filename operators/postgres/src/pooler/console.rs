//! PgBouncer's console, through its Unix socket: who runs as the same user needs no password. I/O.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::settings::PORT;

/// Bound of whatever does not wait for clients.
const PATIENCE: Duration = Duration::from_secs(2);

/// PgBouncer did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// It is not there.
    #[error("PgBouncer's console does not answer: {0}")]
    Connect(String),
    /// It refused.
    #[error("PgBouncer refused {0}: {1}")]
    Refused(&'static str, String),
    /// It is there and does not answer.
    #[error("PgBouncer did not answer {0} within {PATIENCE:?}")]
    Slow(&'static str),
}

/// A row of an answer: values by column.
pub type Row = BTreeMap<String, String>;

/// The console.
#[derive(Clone, Debug)]
pub struct Console {
    /// Folder of the socket.
    folder: PathBuf,
}

impl Console {
    /// Of the PgBouncer whose socket is in this folder.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    async fn connect(&self) -> Result<Client, ConsoleError> {
        let mut config = Config::new();
        config
            .host_path(&self.folder)
            .port(PORT)
            .user("pgbouncer")
            .dbname("pgbouncer");
        let (client, connection) = timeout(PATIENCE, config.connect(NoTls))
            .await
            .map_err(|_| ConsoleError::Slow("a connection"))?
            .map_err(|e| ConsoleError::Connect(e.to_string()))?;
        // It ends with the client.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the console ended");
            }
        });
        Ok(client)
    }

    /// One command, answered within a moment.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub async fn ask(&self, command: &'static str) -> Result<Vec<Row>, ConsoleError> {
        timeout(PATIENCE, self.wait(command))
            .await
            .map_err(|_| ConsoleError::Slow(command))?
    }

    /// One command, however long it takes. Given up, it goes on in PgBouncer.
    ///
    /// # Errors
    /// See [`ConsoleError`].
    pub async fn wait(&self, command: &'static str) -> Result<Vec<Row>, ConsoleError> {
        let client = self.connect().await?;
        let answer = client.simple_query(command).await.map_err(|error| {
            if let Some(said) = error.as_db_error() {
                ConsoleError::Refused(command, said.message().to_owned())
            } else {
                ConsoleError::Connect(error.to_string())
            }
        })?;
        let rows = answer.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        Ok(rows
            .map(|row| {
                let columns = row.columns().iter().enumerate();
                let value = |(i, c): (usize, &tokio_postgres::SimpleColumn)| {
                    Some((c.name().to_owned(), row.get(i)?.to_owned()))
                };
                columns.filter_map(value).collect()
            })
            .collect())
    }
}
