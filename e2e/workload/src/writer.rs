//! The loop that writes and keeps the ledger, for any engine.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep_until};

use super::journal::{Journal, JournalError};
use super::ledger::{Entry, Outcome, Term};

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
    fn write(&mut self, id: u64, again: Again) -> impl Future<Output = Attempt>;
}

/// A connection that can be asked what its server shows.
pub trait Shows {
    /// The server, from one start to its end, and the newest number of ledger `run` that it shows.
    fn newest(&mut self, run: &str) -> impl Future<Output = Option<(String, i64)>>;
}

/// Whether a number is written for the first time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It is: if it is there, something is wrong.
    No,
    /// Nobody knows what became of it: that it is there is as good as writing it.
    IfMissing,
    /// The server has said that it has it and that others may not: that it is there is no promise.
    /// Something must be written, so that the server waits for the others once more.
    InAnyCase,
}

impl Again {
    /// How what nobody knows the outcome of is written again: in any case, or if it is missing.
    pub fn of(in_any_case: bool) -> Self {
        if in_any_case {
            Self::InAnyCase
        } else {
            Self::IfMissing
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// As the client can know it.
    pub outcome: Outcome,
    /// The server has said that it has the write and no longer waits for others to have it.
    pub alone: bool,
    /// Who acknowledged it.
    pub term: Option<Term>,
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
    /// How what nobody knows the outcome of is written again.
    pub again: Again,
    /// When to stop; `None`: never.
    pub end: Option<Instant>,
}

/// Writes until `pace.end`, or until it is dropped between two attempts. Every attempt is in the
/// ledger when the next begins. What nobody knows the outcome of is written again, until it is known
/// to be there.
///
/// # Errors
/// The ledger cannot be written.
pub async fn run<E: Engine>(
    engine: &E,
    pace: Pace,
    journal: &mut Journal,
) -> Result<(), JournalError> {
    let mut session: Option<E::Session> = None;
    let mut owed: Option<(u64, Again)> = None;
    while pace.end.is_none_or(|end| Instant::now() < end) {
        let begun = Instant::now();
        let (id, again) = owed.unwrap_or_else(|| (journal.next_id(), Again::No));
        let (sent, attempt) = attempt(engine, &mut session, pace, id, again).await;
        if !attempt.usable {
            session = None;
        }
        let next = if attempt.outcome >= Outcome::Taken {
            begun + pace.interval
        } else {
            Instant::now() + pace.retry
        };
        owed = still_owed((id, again), &attempt, pace.again);
        journal.append(&Entry {
            id,
            sent,
            done: now(),
            outcome: attempt.outcome,
            term: attempt.term,
            detail: attempt.detail,
        })?;
        sleep_until(next).await;
    }
    Ok(())
}

/// What is written next under the same number, if anything.
fn still_owed((id, again): (u64, Again), attempt: &Attempt, retry: Again) -> Option<(u64, Again)> {
    match attempt.outcome {
        Outcome::Acknowledged | Outcome::Taken => None,
        _ if attempt.alone => Some((id, Again::InAnyCase)),
        Outcome::Unknown if again == Again::No => Some((id, retry)),
        Outcome::Failed if again == Again::No => None,
        Outcome::Unknown | Outcome::Failed => Some((id, again)),
    }
}

/// One attempt, with when its request was sent: what is refused a connection never was, and has when
/// it was tried.
async fn attempt<E: Engine>(
    engine: &E,
    session: &mut Option<E::Session>,
    pace: Pace,
    id: u64,
    again: Again,
) -> (u64, Attempt) {
    let unusable = |outcome, detail| Attempt {
        outcome,
        alone: false,
        term: None,
        detail,
        usable: false,
    };
    let tried = now();
    if session.is_none() {
        let failed = |why| (tried, unusable(Outcome::Failed, format!("connect: {why}")));
        *session = match tokio::time::timeout(pace.connect, engine.connect()).await {
            Ok(Ok(session)) => Some(session),
            Ok(Err(why)) => return failed(why),
            Err(_) => return failed("no answer in time".into()),
        };
    }
    let Some(open) = session else {
        return (tried, unusable(Outcome::Failed, "not connected".into()));
    };
    let sent = now();
    match tokio::time::timeout(pace.answer, open.write(id, again)).await {
        Ok(attempt) => (sent, attempt),
        Err(_) => (sent, unusable(Outcome::Unknown, "no answer in time".into())),
    }
}

/// Microseconds since the machine started: the same for all processes of a machine.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let whole = u64::try_from(now.tv_sec).unwrap_or(0);
    let parts = u64::try_from(now.tv_nsec).unwrap_or(0);
    whole * 1_000_000 + parts / 1000
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    use super::super::{journal, ledger::Verdict};
    use super::Again::{IfMissing, InAnyCase, No};
    use super::*;

    /// A server that obeys a script: one character for each call. `c` connects, `C` refuses; `a`
    /// acknowledges, `u` breaks after the write, `w` warns, `f` refuses, `h` hangs after the write. At
    /// its end everything hangs, and the test ends the loop.
    #[derive(Clone)]
    struct Scripted {
        script: Rc<RefCell<std::vec::IntoIter<char>>>,
        rows: Rc<RefCell<BTreeSet<u64>>>,
        asked: Rc<RefCell<Vec<Again>>>,
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
        async fn write(&mut self, id: u64, again: Again) -> Attempt {
            let step = self.script.borrow_mut().next();
            self.asked.borrow_mut().push(again);
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
                alone: step == Some('w'),
                term: None,
                detail: String::new(),
                usable,
            }
        }
    }

    #[tokio::test]
    async fn every_attempt_is_recorded_as_what_it_was() {
        let engine = Scripted {
            script: Rc::new(RefCell::new(
                "caauCCcafahcawcfa".chars().collect::<Vec<_>>().into_iter(),
            )),
            rows: Rc::default(),
            asked: Rc::default(),
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
            again: Again::IfMissing,
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
        assert_eq!(outcomes, "aauffafauaufa");
        // What was unknown has one number until it is known to be there.
        let ids: Vec<u64> = entries.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, [1, 2, 3, 3, 3, 3, 4, 5, 6, 6, 7, 7, 7]);
        assert_eq!(
            *engine.asked.borrow(),
            [
                No, No, No, IfMissing, No, No, No, IfMissing, No, InAnyCase, InAnyCase, No
            ]
        );
        let verdict = Verdict::new(&entries, &engine.rows.borrow());
        assert!(verdict.holds(), "{verdict}");
        assert_eq!((verdict.acknowledged, verdict.failed), (6, 1));
    }
}
