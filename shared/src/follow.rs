//! Following one agent by long polls (I/O).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::agent::api::Status;
use crate::agent::client::AgentClient;
use crate::instances::Known;
use crate::keeper::Reporter;

/// How long an agent may hold an answer back when nothing changes.
const HOLD: Duration = Duration::from_secs(10);
/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

/// Follow an agent until the task is ended; every news is reported, then `wake` is called.
///
/// Guarantees: a failure is reported at once as `Unreachable`; an answer that only shows another
/// position in the log is kept but wakes nobody.
pub async fn follow<K: Eq + std::hash::Hash + Send>(
    address: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    to: Reporter<K, Known<Status>>,
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
    let mut last: Option<(String, u64)> = None;
    let mut pause = PAUSE.0;
    loop {
        let after = last.as_ref().map(|(_, sequence)| *sequence);
        match client.status(after, HOLD).await {
            Ok(status) => {
                pause = PAUSE.0;
                let now = (status.nonce.clone(), status.sequence);
                let news = last.as_ref() != Some(&now);
                // A new agent process counts from the beginning: ask it without a number.
                let began_anew = last
                    .as_ref()
                    .is_some_and(|(nonce, _)| *nonce != status.nonce);
                to.report(Known::Known(status));
                if news {
                    wake();
                }
                last = (!began_anew).then_some(now);
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
