//! Readers: each asks one member's own server, from within its network, for the newest row of the client's
//! ledger. Replicas answer as well; what a server has shown once it shows until it ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::verdict::CLIENT;
use crate::workload::postgres::{Connection, Member};
use crate::workload::writer::{Engine as _, now};

/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(100);
/// After a failure: all those that connect take processor time from the one that takes over.
const AGAIN: Duration = Duration::from_millis(250);
/// Longest time for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// The server, as it was started; the newest row that it shows.
const NEWEST: &str = "select current_setting('cluster_name') || '@' || host(inet_server_addr())
        || ' since ' || pg_postmaster_start_time(),
    coalesce((select max(id) from mainstay_ledger where run = $1), 0)";

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
pub async fn read(member: &Member, book: &Book) {
    let mut open: Option<Connection> = None;
    loop {
        let connection = match open.take() {
            Some(connection) => Some(connection),
            None => timeout(PATIENCE, member.connect())
                .await
                .ok()
                .and_then(Result::ok),
        };
        if let Some(connection) = connection {
            let asked = now();
            let answer = connection.client.query_one(NEWEST, &[&CLIENT]);
            if let Ok(Ok(row)) = timeout(PATIENCE, answer).await {
                let mut shown = book.lock().unwrap_or_else(PoisonError::into_inner);
                shown.push(Shown {
                    asked,
                    answered: now(),
                    server: row.get(0),
                    newest: row.get(1),
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

/// What they saw.
pub fn judge(book: &[Shown]) -> Reads {
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
            && after.newest < before.newest
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
        let seen = judge(&book);
        assert_eq!(seen.back, 0);
        assert_eq!(seen.gap, Duration::from_micros(700));
        let fewer = [&book[..], &[shown("a", 300, 5)]].concat();
        assert_eq!(judge(&fewer).back, 1);
        // Asked before the other answer came.
        let crossing = [shown("a", 100, 5), shown("a", 105, 4)];
        assert_eq!(judge(&crossing).back, 0);
        assert_eq!(judge(&[]), Reads::default());
    }
}
