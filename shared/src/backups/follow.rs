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
use crate::follow::{HOLD, Questions, poll};
use crate::instances::Known;
use crate::keeper::Reporter;

/// An answer is asked for at most so often: while the log is archived, something always changes.
const EVERY: Duration = Duration::from_secs(1);

/// Follow a container until the task is ended; every report is kept, and `wake` is called when it changed
/// in what somebody may act on.
pub async fn follow<K: Eq + std::hash::Hash + Send>(
    address: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    to: Reporter<K, Known<Report>>,
    wake: impl Fn() + Send,
) {
    poll(OfBackups::default(), address, host, tls, to, wake).await;
}

/// The last report, and when the next is asked for at the earliest.
#[derive(Default)]
struct OfBackups {
    last: Option<Report>,
    next: Option<Instant>,
}

impl Questions for OfBackups {
    type Told = Report;
    const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

    async fn ask(&mut self, client: &mut AgentClient) -> Result<Report, ClientError> {
        if let Some(next) = self.next {
            sleep_until(next).await;
        }
        self.next = Some(Instant::now() + EVERY);
        let path = self.last.as_ref().map_or_else(
            || REPORT.to_owned(),
            |r| format!("{REPORT}?after={}&wait={}", r.sequence, HOLD.as_millis()),
        );
        client.get(&path, HOLD).await
    }

    fn hear(&mut self, report: &Report) -> bool {
        let last = self.last.replace(report.clone());
        last.as_ref().map(significant) != Some(significant(report))
    }

    fn forget(&mut self) {
        (self.last, self.next) = (None, None);
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
