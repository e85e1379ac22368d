//! The loop that writes and keeps the ledger, for any engine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::{Instant, sleep_until};

use super::journal::{Journal, JournalError};
use super::ledger::{Entry, Outcome};

/// A kind of server that can be written to.
pub trait Engine {
    /// A connection.
    type Session: Session;

    /// Connects once.
    ///
    /// # Errors
    /// Why not, in words.
    fn connect(&self) -> impl Future<Output = Result<Self::Session, String>>;
}

/// A connection that can write.
pub trait Session {
    /// Writes number `id` once, durably.
    fn write(&mut self, id: u64) -> impl Future<Output = Attempt>;
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// As the client can know it.
    pub outcome: Outcome,
    /// Why, in words; may be empty.
    pub detail: String,
    /// Whether the connection can be used again.
    pub usable: bool,
}

/// How a client writes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From the beginning of one write to that of the next; zero: at once.
    pub interval: Duration,
    /// From a failure to the next attempt.
    pub retry: Duration,
    /// Longest time that a connection may take to be made.
    pub connect: Duration,
    /// Longest time that a write may take; its outcome is unknown then.
    pub answer: Duration,
    /// When to stop; `None`: never.
    pub end: Option<Instant>,
}

/// Writes until `pace.end`, or until it is dropped between two attempts. Every attempt is in the
/// ledger when the next begins.
///
/// # Errors
/// The ledger cannot be written.
pub async fn run<E: Engine>(
    engine: &E,
    pace: Pace,
    journal: &mut Journal,
) -> Result<(), JournalError> {
    let mut session: Option<E::Session> = None;
    while pace.end.is_none_or(|end| Instant::now() < end) {
        let (begun, sent, id) = (Instant::now(), now(), journal.next_id());
        let attempt = attempt(engine, &mut session, pace, id).await;
        if !attempt.usable {
            session = None;
        }
        let again = if attempt.outcome == Outcome::Acknowledged {
            begun + pace.interval
        } else {
            Instant::now() + pace.retry
        };
        journal.append(&Entry {
            id,
            sent,
            done: now(),
            outcome: attempt.outcome,
            detail: attempt.detail,
        })?;
        sleep_until(again).await;
    }
    Ok(())
}

async fn attempt<E: Engine>(
    engine: &E,
    session: &mut Option<E::Session>,
    pace: Pace,
    id: u64,
) -> Attempt {
    let unusable = |outcome, detail| Attempt {
        outcome,
        detail,
        usable: false,
    };
    if session.is_none() {
        *session = match tokio::time::timeout(pace.connect, engine.connect()).await {
            Ok(Ok(session)) => Some(session),
            Ok(Err(why)) => return unusable(Outcome::Failed, format!("connect: {why}")),
            Err(_) => return unusable(Outcome::Failed, "connect: no answer in time".into()),
        };
    }
    let Some(open) = session else {
        return unusable(Outcome::Failed, "not connected".into());
    };
    match tokio::time::timeout(pace.answer, open.write(id)).await {
        Ok(attempt) => attempt,
        Err(_) => unusable(Outcome::Unknown, "no answer in time".into()),
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    use super::super::{journal, ledger::Verdict};
    use super::*;

    /// A server that obeys a script: one character for each call. `c` connects, `C` refuses; `a`
    /// acknowledges, `u` breaks after the write, `f` refuses, `h` hangs after the write. At its end
    /// everything hangs, and the test ends the loop.
    #[derive(Clone)]
    struct Scripted {
        script: Rc<RefCell<std::vec::IntoIter<char>>>,
        rows: Rc<RefCell<BTreeSet<u64>>>,
        finished: Rc<tokio::sync::Notify>,
    }

    impl Engine for Scripted {
        type Session = Self;

        async fn connect(&self) -> Result<Self, String> {
            match self.script.borrow_mut().next() {
                Some('c') => Ok(self.clone()),
                _ => Err("refused".into()),
            }
        }
    }

    impl Session for Scripted {
        async fn write(&mut self, id: u64) -> Attempt {
            let step = self.script.borrow_mut().next();
            if step.is_some_and(|step| step != 'f') {
                self.rows.borrow_mut().insert(id);
            }
            let (outcome, usable) = match step {
                Some('a') => (Outcome::Acknowledged, true),
                Some('f') => (Outcome::Failed, true),
                Some('h') => std::future::pending().await,
                Some(_) => (Outcome::Unknown, false),
                None => {
                    self.finished.notify_one();
                    std::future::pending().await
                }
            };
            Attempt {
                outcome,
                detail: String::new(),
                usable,
            }
        }
    }

    #[tokio::test]
    async fn every_attempt_is_recorded_as_what_it_was() {
        let engine = Scripted {
            script: Rc::new(RefCell::new(
                "caauCCcafahca".chars().collect::<Vec<_>>().into_iter(),
            )),
            rows: Rc::default(),
            finished: Rc::default(),
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut journal = Journal::open(Some(file.path())).unwrap();
        let ms = Duration::from_millis;
        let pace = Pace {
            interval: ms(2),
            retry: ms(1),
            connect: ms(5000),
            answer: ms(50),
            end: None,
        };
        tokio::select! {
            ended = run(&engine, pace, &mut journal) => ended.unwrap(),
            () = engine.finished.notified() => {}
        }
        let entries = journal::read(file.path()).unwrap();
        let outcomes: String = entries
            .iter()
            .map(|entry| entry.outcome.to_string().chars().next().unwrap())
            .collect();
        assert_eq!(outcomes, "aauffafaua");
        let verdict = Verdict::new(&entries, &engine.rows.borrow());
        assert!(verdict.holds(), "{verdict}");
        assert_eq!((verdict.unknown, verdict.unknown_present), (2, 2));
    }
}
