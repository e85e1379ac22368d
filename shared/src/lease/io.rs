//! I/O: the loop around [`Machine`] with which an operator leads.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Duration;

use futures::future::{self, Either};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use kube::{Api, Client};

use super::clock::{Clock, Moment};
use super::machine::{Action, Held, Input, Machine, Seen, Write};
use super::{Timing, TimingError};

/// Which Lease, and as whom.
#[derive(Clone, Debug)]
pub struct Config {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Unique to this process: the pod's name and a nonce.
    pub identity: String,
    /// Its times.
    pub timing: Timing,
    /// How long the work may go on by itself after the wish to stop, before it is dropped.
    pub grace: Duration,
}

/// What the work is told of the leadership that it has.
#[derive(Clone)]
pub struct Leadership {
    /// Fencing token: grows with every acquisition.
    pub epoch: i32,
    until: Arc<AtomicU64>,
    clock: Arc<dyn Clock>,
}

impl Leadership {
    /// Whether it is still held. For a check right before something that cannot be undone, in
    /// tasks of their own above all, which are not dropped with the work.
    pub fn is_held(&self) -> bool {
        self.clock.now() < self.until()
    }

    fn until(&self) -> Moment {
        Duration::from_nanos(self.until.load(Ordering::Acquire))
    }

    fn extend(&self, until: Moment) {
        self.until.store(
            u64::try_from(until.as_nanos()).unwrap_or(u64::MAX),
            Ordering::Release,
        );
    }
}

/// How [`lead`] ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End<T> {
    /// The work ended by itself, and the Lease was let go.
    Finished(T),
    /// Asked to stop, as a candidate or with work that outlived its grace; nothing is held.
    Stopped,
    /// The Lease was lost and the work dropped. The process should end: a new one is a new
    /// candidate with nothing left over.
    Lost(LostReason),
}

/// How a Lease was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// It could not be renewed before the deadline.
    Deadline,
    /// This other one holds it.
    Taken(String),
}

/// Be a candidate; once leading, run `work`; stop when it ends, when the Lease is lost, or when
/// `stop` completes.
///
/// Guarantees: the work is never polled after the deadline, also after a sleep of the machine;
/// every request is bounded by what is left of it; the Lease is let go when the work has ended.
/// Refusals (401, 403) are logged as errors at every attempt, with what is missing.
///
/// # Errors
/// When the times do not fit together.
pub async fn lead<T, F, W>(
    client: &Client,
    config: &Config,
    clock: Arc<dyn Clock>,
    stop: impl Future<Output = ()>,
    work: F,
) -> Result<End<T>, TimingError>
where
    F: FnOnce(Leadership) -> W,
    W: Future<Output = T>,
{
    let timing = config.timing.check()?;
    let candidate = Candidate {
        api: Api::namespaced(client.clone(), &config.namespace),
        config,
        clock: clock.clone(),
    };
    let mut machine = Machine::new(config.identity.clone(), timing, true);
    let mut stop = pin!(future::FutureExt::fuse(stop));

    let held = {
        let campaign = pin!(candidate.campaign(&mut machine));
        match future::select(&mut stop, campaign).await {
            Either::Left(_) => None,
            Either::Right((held, _)) => Some(held),
        }
    };
    let Some((held, next)) = held else {
        // An unanswered write may have had effect; it runs out by itself.
        candidate.release(&mut machine).await;
        return Ok(End::Stopped);
    };
    tracing::info!(
        lease = config.name,
        identity = config.identity,
        epoch = held.epoch,
        "leading"
    );
    let leadership = Leadership {
        epoch: held.epoch,
        until: Arc::new(AtomicU64::new(0)),
        clock: clock.clone(),
    };
    leadership.extend(held.until);

    let end = {
        let work = pin!(guarded(work(leadership.clone()), &leadership));
        let keep = pin!(candidate.keep(&mut machine, held, next, &leadership));
        let stopping = pin!(async {
            stop.await;
            tokio::time::sleep(config.grace).await;
        });
        // In this order: what was lost ends the work before the work is asked again.
        let stopping = future::select(keep, future::select(work, stopping));
        match stopping.await {
            Either::Left((reason, _)) => End::Lost(reason),
            Either::Right((Either::Left((Some(value), _)), _)) => End::Finished(value),
            Either::Right((Either::Left((None, _)), _)) => End::Lost(LostReason::Deadline),
            Either::Right((Either::Right(_), _)) => End::Stopped,
        }
    };
    leadership.extend(Moment::ZERO);
    match &end {
        End::Lost(reason) => {
            tracing::error!(
                lease = config.name,
                epoch = held.epoch,
                ?reason,
                "lost the leadership"
            );
        }
        _ => candidate.release(&mut machine).await,
    }
    Ok(end)
}

/// The work, not polled any more once the leadership is over; then it yields none.
async fn guarded<W: Future>(work: W, leadership: &Leadership) -> Option<W::Output> {
    let mut work = pin!(work);
    future::poll_fn(|context| {
        if leadership.is_held() {
            work.as_mut().poll(context).map(Some)
        } else {
            Poll::Ready(None)
        }
    })
    .await
}

struct Candidate<'a> {
    api: Api<Lease>,
    config: &'a Config,
    clock: Arc<dyn Clock>,
}

impl Candidate<'_> {
    /// Until it is held. Also returns what to do next to keep it.
    async fn campaign(&self, machine: &mut Machine) -> (Held, Action) {
        let mut input = Input::Woke;
        loop {
            let action = machine.step(input, self.clock.now());
            if let Some(held) = machine.held(self.clock.now()) {
                return (held, action);
            }
            input = self.perform(machine, action).await;
        }
    }

    /// Until it is lost.
    async fn keep(
        &self,
        machine: &mut Machine,
        first: Held,
        mut action: Action,
        leadership: &Leadership,
    ) -> LostReason {
        let mut until = first.until;
        loop {
            let left = until.saturating_sub(self.clock.now());
            let Ok(input) = tokio::time::timeout(left, self.perform(machine, action)).await else {
                return LostReason::Deadline;
            };
            action = machine.step(input, self.clock.now());
            match machine.held(self.clock.now()) {
                Some(held) if held.epoch == first.epoch => {
                    until = held.until;
                    leadership.extend(until);
                }
                _ => return self.lost(machine),
            }
        }
    }

    fn lost(&self, machine: &Machine) -> LostReason {
        match machine.last_seen().and_then(Seen::holder) {
            Some(other) if other != self.config.identity => LostReason::Taken(other.to_owned()),
            _ => LostReason::Deadline,
        }
    }

    async fn perform(&self, machine: &Machine, action: Action) -> Input {
        let budget = machine.budget(self.clock.now());
        let request = async {
            match action {
                Action::Sleep(span) => {
                    tokio::time::sleep(jittered(span)).await;
                    Ok(Input::Woke)
                }
                Action::Read => self
                    .bounded(budget, self.api.get_opt(&self.config.name))
                    .await
                    .map(|lease| Input::Read(lease.map(Seen))),
                Action::Write(write) => self
                    .bounded(budget, self.write(&write))
                    .await
                    .map(|lease| Input::Written(Seen(lease))),
            }
        };
        request
            .await
            .unwrap_or_else(|problem| self.explain(&problem))
    }

    async fn bounded<T>(
        &self,
        budget: Duration,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Problem> {
        match tokio::time::timeout(budget, request).await {
            Ok(answer) => answer.map_err(Problem::Answer),
            Err(_) => Err(Problem::Silence(budget)),
        }
    }

    async fn write(&self, write: &Write) -> Result<Lease, kube::Error> {
        let config = self.config;
        let object = write.object(
            &config.namespace,
            &config.name,
            BTreeMap::new(),
            self.clock.wall(),
        );
        match write.previous {
            Some(_) => {
                self.api
                    .replace(&config.name, &PostParams::default(), &object)
                    .await
            }
            None => self.api.create(&PostParams::default(), &object).await,
        }
    }

    fn explain(&self, problem: &Problem) -> Input {
        let lease = &self.config.name;
        match problem {
            Problem::Answer(kube::Error::Api(status))
                if status.is_conflict() || status.is_not_found() =>
            {
                tracing::debug!(lease, "the Lease is not what it was");
                return Input::Conflict;
            }
            Problem::Answer(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => {
                tracing::error!(
                    lease,
                    namespace = self.config.namespace,
                    code = status.code,
                    reason = status.message,
                    "the Lease is refused: the service account needs get, create and update on leases here; install the chart of this version again"
                );
            }
            Problem::Answer(error) => {
                tracing::warn!(lease, %error, "the Lease could not be reached");
            }
            Problem::Silence(after) => tracing::warn!(lease, ?after, "no answer about the Lease"),
        }
        Input::Unanswered
    }

    /// Let it go, if it is held. Best effort: it runs out by itself.
    async fn release(&self, machine: &mut Machine) {
        let Some(write) = machine.release(self.clock.now()) else {
            return;
        };
        match self
            .bounded(self.config.timing.retry, self.write(&write))
            .await
        {
            Ok(_) => tracing::info!(lease = self.config.name, "let the Lease go"),
            Err(problem) => {
                self.explain(&problem);
            }
        }
    }
}

/// Why a request came to nothing.
enum Problem {
    Answer(kube::Error),
    Silence(Duration),
}

/// Up to a tenth longer, so that candidates do not meet again and again.
fn jittered(span: Duration) -> Duration {
    let mut byte = [0_u8];
    // Without random bytes there is no jitter, which is harmless.
    let _ = getrandom::fill(&mut byte);
    span + span.mul_f64(f64::from(byte[0]) / 2560.0)
}
