//! An agent's part in the election, as its loop uses it. I/O.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::clock::boottime;
use super::election::driver::{Handle, Setup};
use crate::election::charter::Charter;
use crate::election::member::Ballot;
use crate::election::message::Wanted;
use crate::election::policy::Timing;

/// The Lease is let go within this time, or not at all.
const RELEASED: Duration = Duration::from_secs(3);
/// Somebody who can take over has taken the Lease within this time.
const TAKEN: Duration = Duration::from_secs(2);
/// Clients are led to whoever took over within this time.
const LED_AWAY: Duration = Duration::from_secs(6);
/// What of a pod's grace is left when its agent ends.
const GRACE: Duration = Duration::from_secs(2);

/// The election's driver, and what it is told of the set.
#[derive(Debug)]
pub struct Cluster {
    /// The driver.
    pub driver: Handle,
    /// What is asked of the set.
    pub setup: watch::Sender<Setup>,
}

impl Cluster {
    /// How the engine should be.
    pub fn wanted(&self) -> Wanted {
        self.driver.wanted.borrow().clone()
    }

    /// What the election waits for, in words.
    pub fn because(&self) -> Option<String> {
        self.driver.wait.borrow().clone()
    }

    /// The latest charter heard of.
    pub fn charter(&self) -> Option<Charter> {
        self.driver.charter.borrow().clone()
    }

    /// Identifier of the set's data.
    pub fn identifier(&self) -> Option<String> {
        self.driver.set.borrow().clone()
    }

    /// Whom to follow, and where it is: instance and address. None while that is the instance `me`.
    pub fn leader(&self, me: &str) -> Option<(Ballot, String, String)> {
        let leader = self.driver.leader.borrow().clone()?;
        let name = leader.ballot.holder.member.name.as_str().to_owned();
        let address = leader.address?.to_string();
        (name != me).then_some((leader.ballot, name, address))
    }

    /// Whether the election's loop turns.
    pub fn turns(&self) -> bool {
        boottime().saturating_sub(self.driver.turned()) < Timing::DEFAULT.deadline
    }

    /// The engine of the instance `me` has stopped: wait until the Lease is let go, so that nobody has to
    /// wait for its expiry, and until clients are led to whoever takes over: as long as the pod is there
    /// they are refused at once, and an address without a pod answers nobody. `within` are the milliseconds
    /// that the container has.
    pub async fn release(&mut self, me: &str, within: Option<u64>) {
        let driver = &mut self.driver;
        let gone = driver.held.wait_for(Option::is_none);
        if timeout(RELEASED, gone).await.is_err() {
            tracing::warn!("the Lease could not be let go: it expires");
            return;
        }
        let left = within.map_or(LED_AWAY, |ms| {
            LED_AWAY.min(Duration::from_millis(ms).saturating_sub(GRACE))
        });
        let followed = driver.leader.wait_for(|leader| {
            let name = leader
                .as_ref()
                .map(|l| l.ballot.holder.member.name.as_str());
            name.is_some_and(|name| name != me)
        });
        if matches!(timeout(left.min(TAKEN), followed).await, Ok(Ok(_))) {
            // It may also take longer: whoever took over has to be promoted first.
            let _ = timeout(left, driver.leads_here.wait_for(|here| !here)).await;
        }
    }
}

/// A client of the API server: in a pod from its service account; where `KUBECONFIG` is set, from there.
///
/// # Errors
/// Why not, in words.
pub async fn kubernetes() -> Result<kube::Client, String> {
    let config = if std::env::var_os("KUBECONFIG").is_some() {
        kube::Config::from_kubeconfig(&kube::config::KubeConfigOptions::default())
            .await
            .map_err(|e| e.to_string())?
    } else {
        kube::Config::incluster().map_err(|e| e.to_string())?
    };
    kube::Client::try_from(config).map_err(|e| e.to_string())
}
