//! Looks at all primaries of a cluster from before the first shard of a backup is taken until the last is there. I/O; what is looked
//! for is in [`super::parts`].

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::engine::{Access, number};
use super::parts::{Part, myself};
use crate::resp::{Connection, words};

/// How often primaries are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Longest wait for an answer: a fork holds a large engine up for a moment.
const ANSWER: Duration = Duration::from_secs(10);

/// How far a primary was when its shard was looked at first. What is taken goes at least so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Replication id.
    pub replid: String,
    /// Offset under it.
    pub offset: u64,
}

/// Somebody who looks.
pub struct Guard {
    stop: oneshot::Sender<()>,
    broken: watch::Receiver<Option<String>>,
    task: JoinHandle<Result<(), String>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Guard {
    /// Begins to look: all of them have what they are believed to have. Says how far each is.
    ///
    /// # Errors
    /// One has not, or does not answer: a sentence.
    pub async fn begin(access: &Access, parts: &[Part]) -> Result<(Self, Vec<End>), String> {
        let (mut watched, mut ends) = (Vec::new(), Vec::new());
        for part in parts {
            let named = |why: String| format!("{}: {why}", part.primary.name());
            let mut connection = access.at(&part.primary)?.connect().await.map_err(named)?;
            // How far it is, and then what it has: who took a slot of it later has another epoch.
            ends.push(end(&mut connection).await.map_err(named)?);
            look(&mut connection, part).await?;
            watched.push((part.clone(), connection));
        }
        let (stop, stopped) = oneshot::channel();
        let (tell, broken) = watch::channel(None);
        let task = tokio::spawn(async move {
            let outcome = stand(watched, stopped).await;
            tell.send_replace(outcome.as_ref().err().cloned());
            outcome
        });
        let guard = Self { stop, broken, task };
        Ok((guard, ends))
    }

    /// Something that waits until there is a reason to give the backup up.
    pub fn alarm(&self) -> watch::Receiver<Option<String>> {
        self.broken.clone()
    }

    /// The last look.
    ///
    /// # Errors
    /// Something has changed since the first: a sentence.
    pub async fn finish(mut self) -> Result<(), String> {
        let (stop, _) = oneshot::channel();
        // It may have ended for a reason already, which it says then.
        let _ = std::mem::replace(&mut self.stop, stop).send(());
        let outcome = (&mut self.task).await;
        outcome.unwrap_or_else(|_| Err("looking at the primaries was broken off".to_owned()))
    }
}

/// Waits for a reason to give the backup up.
pub async fn alarmed(mut broken: watch::Receiver<Option<String>>) -> String {
    let told = broken.wait_for(Option::is_some).await;
    let why = told.ok().and_then(|why| why.clone());
    why.unwrap_or_else(|| "looking at the primaries was broken off".to_owned())
}

async fn stand(
    mut watched: Vec<(Part, Connection)>,
    mut stopped: oneshot::Receiver<()>,
) -> Result<(), String> {
    loop {
        let last = tokio::select! {
            () = sleep(LOOK) => false,
            _ = &mut stopped => true,
        };
        for (part, connection) in &mut watched {
            look(connection, part).await?;
        }
        if last {
            return Ok(());
        }
    }
}

async fn look(connection: &mut Connection, part: &Part) -> Result<(), String> {
    let name = part.primary.name();
    let told = tell(connection, words(["CLUSTER", "NODES"])).await;
    let told = told.map_err(|why| format!("{name}: {why}"))?;
    let now = myself(&told)?;
    part.holds(&now).map_err(|why| {
        format!("slots or primaries of the cluster changed while it was backed up: {why}")
    })
}

/// How far it is.
async fn end(connection: &mut Connection) -> Result<End, String> {
    let info = tell(connection, words(["INFO", "replication"])).await?;
    let replid = info.lines().find_map(|l| l.strip_prefix("master_replid:"));
    let end = replid
        .map(str::trim)
        .zip(number(&info, "master_repl_offset"));
    let (replid, offset) = end.ok_or_else(|| "it does not say how far it is".to_owned())?;
    Ok(End {
        replid: replid.to_owned(),
        offset,
    })
}

/// One answer in text.
///
/// # Errors
/// A sentence.
pub async fn tell(connection: &mut Connection, command: Vec<String>) -> Result<String, String> {
    let told = timeout(ANSWER, connection.call(command)).await;
    let told = told.map_err(|_| "it does not answer in time".to_owned())?;
    let told = told.map_err(|e| e.to_string())?;
    Ok(told.text().unwrap_or_default())
}
