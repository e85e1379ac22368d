//! The agent's side of the socket of PID 1. I/O.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::protocol::{Command, State};
use crate::agent::clock::boottime;

/// What PID 1 said last, and when.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Its state.
    pub state: State,
    /// Time since boot when it was heard.
    pub at: Duration,
}

/// Connection to PID 1.
#[derive(Clone, Debug)]
pub struct InitClient {
    commands: mpsc::Sender<Command>,
    heard: watch::Receiver<Heard>,
}

impl InitClient {
    /// Connect, and wait for the first state.
    ///
    /// The connection is for the life of the process: when it breaks, commands fail, and the
    /// caller should end so that PID 1 starts it anew.
    pub async fn connect(socket: &Path) -> io::Result<Self> {
        let (reader, mut writer) = UnixStream::connect(socket).await?.into_split();
        let mut lines = BufReader::new(reader).lines();
        let first = lines
            .next_line()
            .await?
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let (told, heard) = watch::channel(Heard {
            state: serde_json::from_str(&first)?,
            at: boottime(),
        });
        let (commands, mut queue) = mpsc::channel::<Command>(16);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                match serde_json::from_str(&line) {
                    Ok(state) => {
                        told.send_replace(Heard {
                            state,
                            at: boottime(),
                        });
                    }
                    Err(error) => tracing::warn!(%error, "PID 1 sent a line that is no state"),
                }
            }
        });
        tokio::spawn(async move {
            while let Some(command) = queue.recv().await {
                let Ok(mut line) = serde_json::to_vec(&command) else {
                    continue;
                };
                line.push(b'\n');
                if writer.write_all(&line).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { commands, heard })
    }

    /// Send a command. PID 1 answers with its state, see [`Self::heard`].
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&self, command: Command) -> io::Result<()> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.commands.send(command).await.map_err(gone)
    }

    /// Send a command without waiting for anything.
    ///
    /// # Errors
    /// When the connection is gone, or commands before it are still on their way.
    pub fn try_send(&self, command: Command) -> io::Result<()> {
        self.commands.try_send(command).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => io::ErrorKind::WouldBlock.into(),
            mpsc::error::TrySendError::Closed(_) => io::ErrorKind::BrokenPipe.into(),
        })
    }

    /// What PID 1 says; it changes at every pulse.
    pub fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.clone()
    }
}
