//! Following one of our servers by long polls, and an agent so (I/O).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::agent::api::Status;
use crate::agent::client::{AgentClient, ClientError};
use crate::instances::Known;
use crate::keeper::Reporter;

/// How long an answer may be held back when nothing changes.
pub(crate) const HOLD: Duration = Duration::from_secs(10);

/// How somebody is asked again and again.
pub(crate) trait Questions: Send {
    /// What is answered.
    type Told: PartialEq + Send;
    /// First and longest pause after a failure.
    const PAUSE: (Duration, Duration);

    /// The next answer.
    fn ask(
        &mut self,
        client: &mut AgentClient,
    ) -> impl Future<Output = Result<Self::Told, ClientError>> + Send;

    /// It was told. Says whether somebody may act on it.
    fn hear(&mut self, told: &Self::Told) -> bool;

    /// It failed: the next answer is as the first.
    fn forget(&mut self);
}

/// Ask until the task is ended; every answer is kept, and `wake` is called when somebody may act on it.
///
/// Guarantees: a failure is reported at once as `Unreachable`.
pub(crate) async fn poll<Q: Questions, K: Eq + std::hash::Hash + Send>(
    mut questions: Q,
    address: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    to: Reporter<K, Known<Q::Told>>,
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
    let mut pause = Q::PAUSE.0;
    loop {
        match questions.ask(&mut client).await {
            Ok(told) => {
                pause = Q::PAUSE.0;
                let news = questions.hear(&told);
                to.report(Known::Known(told));
                if news {
                    wake();
                }
            }
            Err(error) => {
                questions.forget();
                if to.report(Known::Unreachable(error.to_string())) {
                    wake();
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Q::PAUSE.1);
            }
        }
    }
}

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
    poll(OfAgent::default(), address, host, tls, to, wake).await;
}

/// Nonce and number of the last answer.
#[derive(Default)]
struct OfAgent {
    last: Option<(String, u64)>,
}

impl Questions for OfAgent {
    type Told = Status;
    const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(3));

    async fn ask(&mut self, client: &mut AgentClient) -> Result<Status, ClientError> {
        let after = self.last.as_ref().map(|(_, sequence)| *sequence);
        client.status(after, HOLD).await
    }

    fn hear(&mut self, status: &Status) -> bool {
        let now = (status.nonce.clone(), status.sequence);
        let last = self.last.take();
        let news = last.as_ref() != Some(&now);
        // A new agent process counts from the beginning: ask it without a number.
        let began_anew = last.is_some_and(|(nonce, _)| nonce != status.nonce);
        self.last = (!began_anew).then_some(now);
        news
    }

    fn forget(&mut self) {
        self.last = None;
    }
}
