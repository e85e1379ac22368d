//! Following one backup container by long polls, and asking it (I/O).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mainstay_backup::api::{ORDERS, Order, REPORT, Report};
use rustls::ClientConfig;
use tokio::time::{Instant, sleep_until};

use super::health::LATEST;
use crate::agent::client::{AgentClient, ClientError};
use crate::instances::Known;
use crate::keeper::Reporter;

/// How long an answer may be held back when nothing changes.
const HOLD: Duration = Duration::from_secs(10);
/// An answer is asked for at most so often: while the log is archived, something always changes.
const EVERY: Duration = Duration::from_secs(1);
/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Follow a container until the task is ended; every report is kept, and `wake` is called when it changed
/// in what somebody may act on.
pub async fn follow<K: Eq + std::hash::Hash + Send>(
    address: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    to: Reporter<K, Known<Report>>,
    wake: impl Fn() + Send,
) {
    let mut client = match AgentClient::new(address, &host, tls) {
        Ok(client) => client,
        Err(error) => {
            to.report(Known::Unreachable(error.to_string()));
            wake();
            return;
        }
    };
    let mut last: Option<Report> = None;
    let mut pause = PAUSE.0;
    loop {
        let next = Instant::now() + EVERY;
        let path = last.as_ref().map_or_else(
            || REPORT.to_owned(),
            |r| format!("{REPORT}?after={}&wait={}", r.sequence, HOLD.as_millis()),
        );
        match client.get::<Report>(&path, HOLD).await {
            Ok(report) => {
                pause = PAUSE.0;
                let news = last.as_ref().map(significant) != Some(significant(&report));
                to.report(Known::Known(report.clone()));
                if news {
                    wake();
                }
                last = Some(report);
                sleep_until(next).await;
            }
            Err(error) => {
                last = None;
                if to.report(Known::Unreachable(error.to_string())) {
                    wake();
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
}

/// What somebody may act on: not how far the log has got, nor every byte of a backup.
fn significant(report: &Report) -> Report {
    let mut report = report.clone();
    report.sequence = 0;
    report.archive.last_piece = None;
    report.archive.last_at = None;
    report.archive.waiting_pieces = 0;
    report.archive.waiting_bytes = 0;
    report.catalogue_at = report.catalogue_at.map(|_| Timestamp::UNIX_EPOCH);
    let step = LATEST.as_secs().max(1);
    report.latest = report
        .latest
        .and_then(|t| Timestamp::from_second(t.as_second() / step * step).ok());
    if let Some(running) = &mut report.running {
        let twentieth = |total: u64| running.plain_bytes.saturating_mul(20) / total.max(1);
        // Without a whole it is the number of doublings.
        let doublings = u64::from(64 - running.plain_bytes.leading_zeros());
        running.plain_bytes = running.total_bytes.map_or(doublings, twentieth);
        running.stored_bytes = 0;
        running.rate = 0;
    }
    report
}

/// Give an order.
///
/// # Errors
/// It was refused, or did not get there.
pub async fn give(
    address: SocketAddr,
    host: &str,
    tls: Arc<ClientConfig>,
    order: &Order,
) -> Result<(), ClientError> {
    AgentClient::new(address, host, tls)?
        .send(ORDERS, order)
        .await
}

#[cfg(test)]
mod tests {
    use mainstay_backup::api::Running;

    use super::*;

    #[test]
    fn only_what_matters_is_news() {
        let base = Report {
            latest: Some(Timestamp::from_second(600).unwrap()),
            running: Some(Running {
                order: "o".into(),
                id: "20260102t030405z-0011223344556677".parse().unwrap(),
                begun: Timestamp::UNIX_EPOCH,
                step: "copies files".into(),
                incremental: false,
                plain_bytes: 100,
                stored_bytes: 50,
                total_bytes: Some(1000),
                rate: 7,
            }),
            ..Report::default()
        };
        let mut other = base.clone();
        other.sequence = 9;
        other.archive.last_piece = Some("x".into());
        other.archive.waiting_pieces = 3;
        other.latest = Some(Timestamp::from_second(899).unwrap());
        let running = other.running.as_mut().unwrap();
        (running.plain_bytes, running.stored_bytes, running.rate) = (149, 70, 9);
        assert_eq!(significant(&base), significant(&other));
        let mut news = base.clone();
        news.latest = Some(Timestamp::from_second(900).unwrap());
        assert_ne!(significant(&base), significant(&news));
        let mut news = base.clone();
        news.running.as_mut().unwrap().plain_bytes = 150;
        assert_ne!(significant(&base), significant(&news));
        let mut news = base.clone();
        news.running = None;
        assert_ne!(significant(&base), significant(&news));
    }
}
