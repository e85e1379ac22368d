//! What has to be durable, made so on a thread that may wait for the volume. I/O.

use std::collections::BTreeMap;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use crate::agent::state::{ClaimError, Met, Store};
use crate::election::charter::Durable;

/// Pause before another try.
const PAUSE: Duration = Duration::from_millis(500);

/// What shall be durable. They are done in order; what follows a [`Job::Renew`] is of the new
/// generation.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "few exist at a time")]
pub(super) enum Job {
    /// The election's own memory.
    Durable(Durable),
    /// An epoch claims a timeline.
    Claim {
        /// Which timeline.
        timeline: u64,
        /// Which epoch.
        epoch: u64,
    },
    /// The data is made anew, as this generation.
    Renew(String),
    /// Whom it has met.
    Met(BTreeMap<String, Met>),
}

/// What came of a job.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "few exist at a time")]
pub(super) enum Done {
    /// It is durable.
    Durable(Durable),
    /// It is durable, or the claim contradicts the data.
    Claim {
        /// Which timeline.
        timeline: u64,
        /// Which epoch.
        epoch: u64,
        /// Why not, in words.
        refused: Option<String>,
    },
    /// It is durable.
    Renew(String),
    /// Not yet: it is tried again.
    Failed(String),
}

/// Start the thread; it ends when the sender is dropped.
pub(super) fn start(store: Store, done: UnboundedSender<Done>) -> io::Result<Sender<Job>> {
    let (jobs, inbox) = channel();
    thread::Builder::new()
        .name("election-disk".into())
        .spawn(move || work(&store, &inbox, &done))?;
    Ok(jobs)
}

fn work(store: &Store, inbox: &Receiver<Job>, done: &UnboundedSender<Done>) {
    while let Ok(job) = inbox.recv() {
        loop {
            match attempt(store, &job) {
                Ok(Some(result)) => {
                    // Nobody waits for it any more when the driver has ended.
                    let _ = done.send(result);
                }
                Ok(None) => {}
                Err(error) => {
                    if done.send(Done::Failed(error.to_string())).is_err() {
                        return;
                    }
                    thread::sleep(PAUSE);
                    continue;
                }
            }
            break;
        }
    }
}

fn attempt(store: &Store, job: &Job) -> io::Result<Option<Done>> {
    Ok(match job {
        Job::Durable(durable) => {
            store.update(|m| {
                m.epoch = m.epoch.max(durable.epoch().0);
                m.election = durable.clone();
            })?;
            Some(Done::Durable(durable.clone()))
        }
        Job::Claim { timeline, epoch } => {
            let refused = match store.claimed(*timeline, *epoch) {
                Ok(()) => None,
                Err(ClaimError::Parted(why)) => Some(why.to_string()),
                Err(ClaimError::Io(error)) => return Err(error),
            };
            Some(Done::Claim {
                timeline: *timeline,
                epoch: *epoch,
                refused,
            })
        }
        Job::Renew(generation) => {
            store.update(|m| *m = m.clone().renewed(generation.clone()))?;
            Some(Done::Renew(generation.clone()))
        }
        Job::Met(met) => {
            store.update(|m| m.peers.clone_from(met))?;
            None
        }
    })
}
