//! Kubernetes events of a resource, with stable reasons. A task of its own does the I/O.
//!
//! Guarantees: reporting an event never waits and never fails a pass; the same event is written at
//! most once in [`QUIET`], so that a settled or stuck resource does not write again and again; the
//! queue is bounded, and what does not fit is counted and dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The same event is not written again within this time.
pub const QUIET: Duration = Duration::from_mins(10);
/// Events that wait to be written.
const QUEUE: usize = 256;
/// Events that are remembered in order not to write them again.
const REMEMBERED: usize = 4096;
/// Longest note that the API takes, in bytes.
const LONGEST_NOTE: usize = 1024;
/// A write that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// An event about an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Happening {
    /// Whether a person should look.
    pub warning: bool,
    /// Stable name in camel case, for example `Restarting`. Alerts may select by it.
    pub reason: &'static str,
    /// What was done, or tried, for example `Restart`.
    pub action: &'static str,
    /// A sentence.
    pub note: String,
}

/// Where passes report what happened. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    queue: mpsc::Sender<(ObjectReference, Happening)>,
    dropped: Arc<AtomicU64>,
}

impl Events {
    /// Begin: the future writes the events; run it beside the controller.
    pub fn new(client: Client, instance: &str) -> (Self, impl Future<Output = ()>) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let reporter = Reporter {
            controller: crate::names::MANAGER.into(),
            instance: Some(instance.into()),
        };
        let events = Self {
            queue,
            dropped: Arc::default(),
        };
        (events, write_all(Recorder::new(client, reporter), waiting))
    }

    /// Report what happened to an object.
    pub fn report(&self, object: &ObjectReference, happening: Happening) {
        if self.queue.try_send((object.clone(), happening)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were dropped since the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

async fn write_all(recorder: Recorder, mut waiting: mpsc::Receiver<(ObjectReference, Happening)>) {
    let mut recent = Recent::default();
    while let Some((object, happening)) = waiting.recv().await {
        if !recent.admit(&object, &happening, Instant::now()) {
            continue;
        }
        let event = Event {
            type_: if happening.warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: happening.reason.to_owned(),
            note: Some(shortened(&happening.note).to_owned()),
            action: happening.action.to_owned(),
            secondary: None,
        };
        let written = tokio::time::timeout(PATIENCE, recorder.publish(&event, &object)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(reason = happening.reason, %error, "an event was not written");
            }
            Err(_) => tracing::warn!(
                reason = happening.reason,
                "an event was not written: no answer"
            ),
        }
    }
}

/// What was written lately.
#[derive(Default)]
struct Recent(HashMap<(Option<String>, Happening), Instant>);

impl Recent {
    /// Whether to write it: not if the same was written lately.
    fn admit(&mut self, object: &ObjectReference, happening: &Happening, now: Instant) -> bool {
        let key = (object.uid.clone(), happening.clone());
        if self
            .0
            .get(&key)
            .is_some_and(|at| now.duration_since(*at) < QUIET)
        {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, at| now.duration_since(*at) < QUIET);
            if self.0.len() >= REMEMBERED {
                self.0.clear();
            }
        }
        self.0.insert(key, now);
        true
    }
}

/// As much of a note as the API takes, cut between characters.
fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(LONGEST_NOTE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn happening(note: &str) -> Happening {
        Happening {
            warning: false,
            reason: "Restarting",
            action: "Restart",
            note: note.into(),
        }
    }

    fn object(uid: &str) -> ObjectReference {
        ObjectReference {
            uid: Some(uid.into()),
            ..ObjectReference::default()
        }
    }

    #[test]
    fn the_same_event_is_written_once_in_the_quiet_time() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        assert!(recent.admit(&object("1"), &happening("a"), now));
        assert!(!recent.admit(&object("1"), &happening("a"), now + QUIET / 2));
        assert!(recent.admit(&object("1"), &happening("b"), now));
        assert!(recent.admit(&object("2"), &happening("a"), now));
        assert!(recent.admit(&object("1"), &happening("a"), now + QUIET));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (mut recent, now) = (Recent::default(), Instant::now());
        for n in 0..2 * REMEMBERED {
            recent.admit(&object("1"), &happening(&n.to_string()), now);
        }
        assert!(recent.0.len() <= REMEMBERED);
    }

    #[test]
    fn long_notes_are_cut_between_characters() {
        let long = "ä".repeat(LONGEST_NOTE);
        assert_eq!(shortened(&long).len(), LONGEST_NOTE);
        let odd = format!("x{long}");
        assert_eq!(shortened(&odd).len(), LONGEST_NOTE - 1);
        assert_eq!(shortened("short"), "short");
    }
}
