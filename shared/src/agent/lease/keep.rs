//! Keep the Lease and the endpoints while the agent claims so. I/O; the rules are in
//! [`super::rule`] and [`super::slice`].

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::follow::{Seen, follow};
use super::point::{Pointer, Primary, said};
use super::rule::{Claim, Me, RENEW, Step, next, released, written};
use crate::agent::clock::boottime;
use crate::election::record::Record;

/// Longest time for a write. A renewal that takes longer counts as failed.
const WRITE: Duration = Duration::from_secs(2);

/// What to keep.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Namespace of the set.
    pub namespace: String,
    /// Name of the set.
    pub set: String,
    /// Who this agent is.
    pub me: Me,
    /// Name of the engine's port, as in the Service.
    pub port_name: String,
    /// The engine's port.
    pub port: u16,
}

/// The keeper's other end.
#[derive(Debug)]
pub struct Keeper {
    /// The claim: none while the engine shall not be primary.
    pub claim: watch::Sender<Option<Claim>>,
    /// The epoch under which the Lease is held, and whether it still is. The agent makes an epoch
    /// durable *before* it is used: see `granted`.
    pub held: watch::Receiver<Option<u64>>,
    /// Why the Lease is not held, in words, when it is claimed and not held.
    pub waits: watch::Receiver<Option<String>>,
}

/// Watch the set's Lease.
pub fn watch_lease(
    client: Client,
    namespace: &str,
    set: &str,
) -> watch::Receiver<Option<Seen<Lease>>> {
    follow(Api::<Lease>::namespaced(client, namespace), set.to_owned())
}

/// Start to keep the Lease. `durable` makes an epoch durable on the volume and is called before
/// each acquisition; when it fails there is none.
pub fn keep<F>(
    client: Client,
    subject: Subject,
    lease: watch::Receiver<Option<Seen<Lease>>>,
    durable: F,
) -> Keeper
where
    F: Fn(u64) -> std::io::Result<()> + Clone + Send + Sync + 'static,
{
    let (claim, claimed) = watch::channel(None);
    let (tell_held, held) = watch::channel(None);
    let (tell_waits, waits) = watch::channel(None);
    let task = Task {
        leases: Api::namespaced(client.clone(), &subject.namespace),
        pointer: Pointer::new(
            client,
            Primary {
                namespace: subject.namespace.clone(),
                set: subject.set.clone(),
                instance: subject.me.instance.clone(),
                address: subject.me.address.clone(),
                port_name: subject.port_name.clone(),
                port: subject.port,
            },
        ),
        subject,
        lease,
        claimed,
        held: tell_held,
        waits: tell_waits,
        durable,
    };
    tokio::spawn(task.run());
    Keeper { claim, held, waits }
}

struct Task<F> {
    leases: Api<Lease>,
    subject: Subject,
    lease: watch::Receiver<Option<Seen<Lease>>>,
    claimed: watch::Receiver<Option<Claim>>,
    held: watch::Sender<Option<u64>>,
    waits: watch::Sender<Option<String>>,
    durable: F,
    pointer: Pointer,
}

impl<F> Task<F>
where
    F: Fn(u64) -> std::io::Result<()> + Clone + Send + Sync + 'static,
{
    async fn run(mut self) {
        let mut due = Instant::now();
        // The version that was written last: the watch may still show the one before.
        let mut own: Option<Seen<Lease>> = None;
        loop {
            let claim = self.claimed.borrow_and_update().clone();
            let Some(claim) = claim else {
                self.let_go(&mut own).await;
                if self.claimed.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if Instant::now() >= due {
                due = Instant::now() + RENEW;
                let outcome = self.turn(&claim, &mut own).await;
                if let Err(why) = &outcome {
                    tracing::debug!(%why, "the Lease is not renewed");
                    // Not held yet: look again soon, so that a new primary opens quickly.
                    if self.held.borrow().is_none() {
                        due = Instant::now() + Duration::from_millis(250);
                    }
                }
                self.waits.send_if_modified(|w| {
                    let new = outcome.err();
                    let changed = *w != new;
                    *w = new;
                    changed
                });
            }
            let held = *self.held.borrow();
            if let Some(epoch) = held.filter(|_| claim.open) {
                self.pointer.point(epoch).await;
            }
            tokio::select! {
                () = sleep_until(due) => {}
                changed = self.claimed.changed() => if changed.is_err() { return },
                () = self.pointer.changed() => {}
            }
        }
    }

    /// One look at the Lease, with at most one write.
    async fn turn(&self, claim: &Claim, own: &mut Option<Seen<Lease>>) -> Result<(), String> {
        let seen = self.lease.borrow().clone();
        let seen = seen.ok_or("the API server has not answered yet")?;
        // A lease that was deleted and made anew is not ours any more.
        let same = |a: &Seen<Lease>| {
            a.object.as_ref().and_then(ResourceExt::uid)
                == seen.object.as_ref().and_then(ResourceExt::uid)
        };
        let base = match own.take() {
            Some(mine) if same(&mine) && mine.since >= seen.since => mine,
            _ => seen,
        };
        let lease = base
            .object
            .as_ref()
            .ok_or("there is no Lease: the operator makes it")?;
        let held = *self.held.borrow();
        let me = &self.subject.me;
        let step =
            next(boottime(), me, lease, base.since, held, claim).map_err(|e| e.to_string())?;
        let (record, acquired) = match step {
            Step::Wait(why) => {
                let holder = lease.spec.as_ref().and_then(|s| s.holder_identity.as_ref());
                if holder != Some(&me.holder()) {
                    self.held.send_replace(None);
                }
                *own = Some(base);
                return Err(why);
            }
            Step::Renew(record) => (record, false),
            Step::Acquire(record) => {
                self.held.send_replace(None);
                let (durable, epoch) = (self.durable.clone(), record.epoch);
                tokio::task::spawn_blocking(move || durable(epoch))
                    .await
                    .map_err(|e| e.to_string())?
                    .map_err(|e| format!("epoch {epoch} could not be made durable: {e}"))?;
                (record, true)
            }
        };
        let new = written(lease, me, &record, acquired, Timestamp::now());
        let replaced = self.replace(&new).await?;
        *own = Some(Seen {
            object: Some(replaced),
            since: boottime(),
        });
        if acquired {
            tracing::info!(epoch = record.epoch, "the Lease is acquired");
            self.held.send_replace(Some(record.epoch));
        }
        Ok(())
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, String> {
        let name = &self.subject.set;
        let params = PostParams::default();
        timeout(WRITE, self.leases.replace(name, &params, lease))
            .await
            .map_err(|_| "the API server does not answer".to_owned())?
            .map_err(|e| said(&e))
    }

    /// Released only when the claim is withdrawn, which says that the engine has stopped in order.
    async fn let_go(&mut self, own: &mut Option<Seen<Lease>>) {
        self.pointer.rest();
        if self.held.borrow().is_none() {
            return;
        }
        let last = own.take().and_then(|s| s.object);
        if let Some(lease) = last
            && let Err(why) = self.replace(&released(&lease)).await
        {
            tracing::info!(%why, "the Lease could not be released: it expires");
        }
        self.held.send_replace(None);
    }
}

/// The record of a Lease as seen, if there is one that can be read.
pub fn record_of(seen: &Seen<Lease>) -> Option<Record> {
    let annotations = seen.object.as_ref()?.metadata.annotations.as_ref()?;
    Record::from_annotations(annotations)
        .inspect_err(|error| tracing::warn!(%error, "the Lease cannot be read"))
        .ok()
}
