//! Readers: each asks one member's own server, from within its network, for the newest row of the client's
//! ledger. Replicas answer as well; what a server has shown once it shows until it ends. A replica of Redis goes back
//! to what whoever was elected has: there that holds for what had been confirmed when it was shown.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mainstay_workload::ledger::{Entry, Outcome};
use mainstay_workload::writer::{Engine, Shows, now};
use tokio::time::{sleep, timeout};

use super::verdict::CLIENT;

/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// After a failure: all those that connect take processor time from the one that takes over.
const AGAIN: Duration = Duration::from_millis(250);
/// Longest time for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// When it was asked for, in microseconds.
    pub asked: u64,
    /// When it came.
    pub answered: u64,
    /// Which server gave it, from one start to its end.
    pub server: String,
    /// The newest row of the client's ledger.
    pub newest: i64,
}

/// All answers to all readers of a run.
pub type Book = Arc<Mutex<Vec<Shown>>>;

/// Asks until it is dropped.
pub async fn read<E: Engine<Session: Shows>>(member: &E, book: &Book) {
    let mut open: Option<E::Session> = None;
    loop {
        let connection = match open.take() {
            Some(connection) => Some(connection),
            None => timeout(PATIENCE, member.connect())
                .await
                .ok()
                .and_then(Result::ok),
        };
        if let Some(mut connection) = connection {
            let asked = now();
            let answer = timeout(PATIENCE, connection.newest(CLIENT)).await;
            if let Ok(Some((server, newest))) = answer {
                let mut shown = book.lock().unwrap_or_else(PoisonError::into_inner);
                shown.push(Shown {
                    asked,
                    answered: now(),
                    server,
                    newest,
                });
                open = Some(connection);
            }
        }
        sleep(if open.is_some() { PAUSE } else { AGAIN }).await;
    }
}

/// What the readers of a run saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Longest time in which no member answered any of them.
    pub gap: Duration,
    /// How often a server showed less than it had shown before.
    pub back: usize,
}

/// When something was confirmed, in microseconds, and the newest number that was then. In order.
pub type Confirmed = Vec<(u64, i64)>;

/// What had been confirmed to a client, and when.
pub fn confirmed(ledger: &[Entry]) -> Confirmed {
    let all = ledger.iter();
    let sure = all.filter(|e| e.outcome == Outcome::Acknowledged);
    let mut all: Confirmed = sure
        .filter_map(|e| Some((e.done, i64::try_from(e.id).ok()?)))
        .collect();
    all.sort_unstable();
    let mut newest = 0;
    for (_, id) in &mut all {
        newest = newest.max(*id);
        *id = newest;
    }
    all
}

/// What they saw. Where only what was confirmed stays, the rest of what was shown does not count; nothing
/// confirmed: all of it stays.
pub fn judge(book: &[Shown], confirmed: &[(u64, i64)]) -> Reads {
    let stays = |shown: &Shown| {
        let before = confirmed.partition_point(|(at, _)| *at <= shown.asked);
        let newest = match (confirmed, before.checked_sub(1)) {
            ([], _) => i64::MAX,
            (all, Some(last)) => all[last].1,
            (_, None) => 0,
        };
        shown.newest.min(newest)
    };
    let mut times: Vec<u64> = book.iter().map(|s| s.answered).collect();
    times.sort_unstable();
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    let mut answers: Vec<&Shown> = book.iter().collect();
    answers.sort_by_key(|s| (&s.server, s.asked));
    let back = answers.windows(2).filter(|pair| {
        let [before, after] = pair else { return false };
        // Two that were asked at the same time may be answered in any order.
        before.server == after.server
            && before.answered <= after.asked
            && after.newest < stays(before)
    });
    Reads {
        back: back.count(),
        gap: Duration::from_micros(gaps.max().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(server: &str, asked: u64, newest: i64) -> Shown {
        Shown {
            asked,
            answered: asked + 10,
            server: server.to_owned(),
            newest,
        }
    }

    #[test]
    fn no_server_may_show_less_than_before_and_another_one_may() {
        let book = [
            shown("a", 100, 5),
            shown("b", 150, 3),
            shown("a", 200, 6),
            shown("b", 900, 3),
        ];
        let seen = judge(&book, &[]);
        assert_eq!(seen.back, 0);
        assert_eq!(seen.gap, Duration::from_micros(700));
        let fewer = [&book[..], &[shown("a", 300, 5)]].concat();
        assert_eq!(judge(&fewer, &[]).back, 1);
        // Asked before the other answer came.
        let crossing = [shown("a", 100, 5), shown("a", 105, 4)];
        assert_eq!(judge(&crossing, &[]).back, 0);
        assert_eq!(judge(&[], &[]), Reads::default());
    }

    #[test]
    fn what_was_not_confirmed_when_it_was_shown_may_go_again() {
        let entry = |id, done, outcome| Entry {
            id,
            sent: done - 1,
            done,
            outcome,
            term: None,
            detail: String::new(),
        };
        let ledger = [
            entry(4, 50, Outcome::Acknowledged),
            entry(5, 90, Outcome::Taken),
            entry(6, 250, Outcome::Acknowledged),
        ];
        let told = confirmed(&ledger);
        assert_eq!(told, [(50, 4), (250, 6)]);
        let back = [shown("a", 100, 5), shown("a", 300, 4)];
        assert_eq!(judge(&back, &told).back, 0, "5 was only taken");
        assert_eq!(judge(&back, &[]).back, 1);
        let gone = [shown("a", 260, 6), shown("a", 300, 5)];
        assert_eq!(judge(&gone, &told).back, 1);
        let early = [shown("a", 10, 3), shown("a", 40, 2)];
        assert_eq!(judge(&early, &told).back, 0);
    }
}
