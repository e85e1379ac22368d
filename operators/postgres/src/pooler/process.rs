//! PgBouncer as a child of this process: started, started again when it ends, stopped in order. I/O.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Pauses before it is started again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// The child's other end.
pub struct Process {
    /// How often it was started.
    pub starts: watch::Receiver<u64>,
    stop: watch::Sender<Option<Duration>>,
    task: tokio::task::JoinHandle<()>,
}

/// Start it with this configuration file.
pub fn start(file: PathBuf) -> Process {
    let (tell, starts) = watch::channel(0);
    let (stop, stopping) = watch::channel(None);
    Process {
        starts,
        stop,
        task: tokio::spawn(supervise(file, tell, stopping)),
    }
}

impl Process {
    /// Stop it: no new client gets in, transactions that run go on for so long at most.
    pub async fn stop(self, within: Duration) {
        self.stop.send_replace(Some(within));
        // It has ended anyway.
        let _ = self.task.await;
    }
}

async fn supervise(
    file: PathBuf,
    tell: watch::Sender<u64>,
    mut stopping: watch::Receiver<Option<Duration>>,
) {
    let mut pause = PAUSES.0;
    loop {
        let spawned = Command::new("pgbouncer")
            .arg(&file)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        match spawned {
            Ok(mut child) => {
                tell.send_modify(|n| *n += 1);
                let begun = tokio::time::Instant::now();
                let ended = tokio::select! {
                    ended = child.wait() => ended,
                    Ok(within) = wanted(&mut stopping) => return end(child, within).await,
                };
                tracing::error!(?ended, "PgBouncer ended by itself: it is started again");
                if begun.elapsed() > PAUSES.1 {
                    pause = PAUSES.0;
                }
            }
            Err(error) => {
                tracing::error!(%error, "PgBouncer cannot be started: the image must hold it in PATH");
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            _ = wanted(&mut stopping) => return,
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

async fn wanted(
    stopping: &mut watch::Receiver<Option<Duration>>,
) -> Result<Duration, watch::error::RecvError> {
    let within = stopping.wait_for(Option::is_some).await?;
    Ok(within.unwrap_or_default())
}

async fn end(mut child: Child, within: Duration) {
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    if let Some(id) = id {
        // It waits for servers to be released, and disconnects everybody then.
        let _ = kill(Pid::from_raw(id), Signal::SIGINT);
    }
    if timeout(within, child.wait()).await.is_err() {
        tracing::warn!("transactions did not end in time: PgBouncer is killed");
        let _ = child.kill().await;
    }
}
