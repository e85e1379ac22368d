//! An object store by itself, on the loopback interface.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::{CLIENT, Files, ObjectStore, ObjectStoreError, at};
use crate::apiserver::KEEPER;
use crate::{process, tools};

const ADDRESS: &str = "127.0.0.1";
/// Longest time until it answers; usually less than a second.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running object store. It ends, and its folder is removed, soon after this is dropped and soon after
/// this process is killed.
#[derive(Debug)]
pub struct Server {
    store: ObjectStore,
    folder: TempDir,
    program: std::path::PathBuf,
    port: u16,
    keeper: Option<Child>,
}

impl Server {
    /// Starts it and waits until it answers.
    ///
    /// # Errors
    /// The programs cannot be had, or it does not answer in time.
    pub async fn start() -> Result<Self, ObjectStoreError> {
        tools::require(CLIENT).await?;
        let program = tools::versitygw().await?;
        let here = Path::new(ADDRESS);
        let folder = tempfile::Builder::new()
            .prefix("mainstay-store-")
            .tempdir()
            .map_err(at(here))?;
        let files = Files::new(folder.path());
        files.prepare(ADDRESS)?;
        let port = TcpListener::bind((ADDRESS, 0))
            .and_then(|listener| listener.local_addr())
            .map_err(at(here))?
            .port();
        let mut server = Self {
            store: files.open(ADDRESS, port)?,
            folder,
            program,
            port,
            keeper: None,
        };
        server.resume().await?;
        Ok(server)
    }

    /// The way to it.
    pub fn store(&self) -> &ObjectStore {
        &self.store
    }

    /// Ends it as a crash does. Its data stays.
    ///
    /// # Errors
    /// It does not end.
    pub async fn kill(&mut self) -> Result<(), ObjectStoreError> {
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            keeper.wait().await.map_err(at(Path::new("sh")))?;
        }
        Ok(())
    }

    /// Starts it again after [`Self::kill`].
    ///
    /// # Errors
    /// It does not answer in time.
    pub async fn resume(&mut self) -> Result<(), ObjectStoreError> {
        let path = self.folder.path().join("log");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(at(&path))?;
        let errors = log.try_clone().map_err(at(&path))?;
        let script = Files::new(self.folder.path()).script(&self.program, ADDRESS, self.port);
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper", "", "sh", "-c", &script])
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(at(Path::new("sh")))?;
        self.keeper = Some(keeper);
        let begun = Instant::now();
        while self
            .store
            .ask("GET", "/health", &[], None)
            .await
            .map_or(true, |answer| answer.status != 200)
        {
            if begun.elapsed() > READY_WITHIN {
                let log = std::fs::read_to_string(&path).unwrap_or_default();
                return Err(ObjectStoreError::Silent {
                    log: process::tail(&log, 2000).to_owned(),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}
