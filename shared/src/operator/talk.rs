//! Conversations with agents and engines, in the background (I/O). No request to the API server.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mainstay_backup::api::Report;
use mainstay_crds::common::InstanceRole;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;

use super::engine::{Answer, Engine, Target};
use super::observe::identity::Identity;
use crate::access::Password;
use crate::agent::api::{self, Status};
use crate::agent::client::{AgentClient, ClientError};
use crate::agent::config::hash;
use crate::agent::program::Own;
use crate::backups::{Ask, follow as backups};
use crate::follow::follow;
use crate::instances::{Instance, Known};
use crate::keeper::{Keeper, Reporter};
use crate::names;
use crate::pki::{Served, served};
use crate::watch::SetKey;

/// A pod, by set and uid.
type PodKey = (SetKey, String);

/// How often the Service is tried when nothing changes.
const PROBE_EVERY: Duration = Duration::from_mins(1);
/// How often a served certificate is looked at when nothing changes.
const LOOK_EVERY: Duration = Duration::from_hours(1);
/// First and longest pause after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// By then an agent has looked at its engine again: it does so every second.
const LOOKED_AGAIN: Duration = Duration::from_millis(2500);
/// Agents that are sent a program at a time, each a piece of a megabyte.
const SENDING: usize = 4;
/// Bound of one look at a served certificate.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an order to an agent ended with.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Ended {
    /// It was carried out: the agent's nonce and the number of its status then.
    Done(String, u64),
    /// It was not, for this reason, and so often in a row.
    Refused(String, u32),
}

/// All conversations of the operator.
#[derive(Clone)]
pub struct Talk {
    agents: Keeper<PodKey, Known<Status>>,
    probes: Keeper<SetKey, Known<Answer>>,
    served: Keeper<PodKey, Known<Served>>,
    reloads: Keeper<PodKey, ()>,
    /// What the last restart, hand-over or upgrade ended with.
    orders: Keeper<PodKey, Ended>,
    /// What backup containers say.
    reports: Keeper<PodKey, Known<Report>>,
    /// What they were asked, by name: why they refused it last, if they did.
    asked: Keeper<(PodKey, String), Option<String>>,
    /// Programs that are being sent.
    sending: Arc<Semaphore>,
    wake: UnboundedSender<SetKey>,
}

impl Talk {
    /// No conversation yet. A pass is asked for through `wake`.
    pub fn new(wake: UnboundedSender<SetKey>) -> Self {
        Self {
            agents: Keeper::default(),
            probes: Keeper::default(),
            served: Keeper::default(),
            reloads: Keeper::default(),
            orders: Keeper::default(),
            reports: Keeper::default(),
            asked: Keeper::default(),
            sending: Arc::new(Semaphore::new(SENDING)),
            wake,
        }
    }

    fn waker(&self, set: &SetKey) -> impl Fn() + Send + 'static {
        let (wake, set) = (self.wake.clone(), set.clone());
        move || {
            // It fails only when the operator ends.
            let _ = wake.send(set.clone());
        }
    }

    /// Follow the agents of these instances and fill in what they last said.
    pub fn follow(&self, set: &SetKey, identity: &Identity, instances: &mut [Instance]) {
        for instance in instances.iter_mut() {
            let Some(pod) = &instance.pod else { continue };
            let Some(address) = address(pod.ip.as_deref(), names::AGENT_PORT) else {
                instance.agent = Known::Unreachable("its pod has no address yet".to_owned());
                continue;
            };
            let key = (set.clone(), pod.uid.clone());
            let host = names::instance_host(&instance.name, &set.name, &set.namespace);
            let token = format!("{address} {}", identity.token);
            let tls = Arc::clone(&identity.agents);
            let waker = self.waker(set);
            self.agents
                .want(&key, &token, |to| follow(address, host, tls, to, waker));
            instance.agent = self
                .agents
                .last(&key)
                .unwrap_or_else(|| Known::Unreachable("its agent has not answered yet".to_owned()));
        }
        let wanted: Vec<&str> = instances
            .iter()
            .filter_map(|i| i.pod.as_ref())
            .map(|p| p.uid.as_str())
            .collect();
        let keep = |key: &PodKey| key.0 != *set || wanted.contains(&key.1.as_str());
        self.agents.retain(keep);
        self.served.retain(keep);
        self.reloads.retain(keep);
        self.orders.retain(keep);
    }

    /// Follow the backup containers of these instances. Returns what each last said, by the instance's name
    /// and the pod's uid. Without any the conversations end.
    pub fn follow_backups(
        &self,
        set: &SetKey,
        identity: &Identity,
        instances: &[&Instance],
    ) -> Vec<(String, String, Known<Report>)> {
        let mut told = Vec::new();
        let mut wanted = Vec::new();
        for instance in instances {
            let Some(pod) = &instance.pod else { continue };
            let key = (set.clone(), pod.uid.clone());
            let unknown = |why: &str| Known::Unreachable(why.to_owned());
            let known = match address(pod.ip.as_deref(), names::BACKUP_PORT) {
                None => unknown("its pod has no address yet"),
                Some(address) => {
                    let host = names::instance_host(&instance.name, &set.name, &set.namespace);
                    let token = format!("{address} {}", identity.token);
                    let tls = Arc::clone(&identity.agents);
                    let waker = self.waker(set);
                    self.reports.want(&key, &token, |to| {
                        backups::follow(address, host, tls, to, waker)
                    });
                    let last = self.reports.last(&key);
                    last.unwrap_or_else(|| unknown("it has not answered yet"))
                }
            };
            told.push((instance.name.clone(), pod.uid.clone(), known));
            wanted.push(key);
        }
        self.reports
            .retain(|key| key.0 != *set || wanted.contains(key));
        told
    }

    /// Whether a backup container was asked what it does and has not answered even once.
    pub fn awaits_backups(&self, set: &SetKey, instances: &[Instance]) -> bool {
        let pods = instances.iter().filter_map(|i| i.pod.as_ref());
        let mut keys = pods.map(|pod| (set.clone(), pod.uid.clone()));
        keys.any(|key| self.reports.runs(&key) && self.reports.last(&key).is_none())
    }

    /// Ask backup containers: each once under a token, until it has taken it. What is not among `asks` any
    /// more is not asked any more.
    pub fn ask_backups(&self, set: &SetKey, identity: &Identity, asks: &[(&Instance, &Ask)]) {
        let key = |instance: &Instance, ask: &Ask| {
            let pod = instance.pod.as_ref()?;
            Some(((set.clone(), pod.uid.clone()), ask.what.clone()))
        };
        let wanted: Vec<_> = asks.iter().filter_map(|(i, a)| key(i, a)).collect();
        self.asked
            .retain(|key| key.0.0 != *set || wanted.contains(key));
        for (instance, ask) in asks {
            let ip = instance.pod.as_ref().and_then(|p| p.ip.as_deref());
            let reached = key(instance, ask).zip(address(ip, names::BACKUP_PORT));
            let Some((key, address)) = reached else {
                continue;
            };
            let host = names::instance_host(&instance.name, &set.name, &set.namespace);
            let tls = Arc::clone(&identity.agents);
            let (order, what, waker) = (ask.order.clone(), ask.what.clone(), self.waker(set));
            let name = instance.name.clone();
            self.asked.want(&key, &ask.token, |to| async move {
                let mut pause = PAUSE.0;
                loop {
                    let given = backups::give(address, &host, Arc::clone(&tls), &order).await;
                    let Err(error) = given else {
                        tracing::info!(instance = name, what, "asked of backups");
                        to.report(None);
                        return;
                    };
                    tracing::info!(instance = name, what, %error, "not taken yet");
                    let why = match error {
                        // Its own words; others name addresses.
                        ClientError::Refused(_, why) => why,
                        other => other.to_string(),
                    };
                    if to.report(Some(why)) {
                        waker();
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
            });
        }
    }

    /// Why a backup container did not take what it was asked, if it did not.
    pub fn backup_refusal(&self, set: &SetKey, pod_uid: &str, what: &str) -> Option<String> {
        let key = ((set.clone(), pod_uid.to_owned()), what.to_owned());
        self.asked.last(&key)?
    }

    /// Try the Service: at once when something changed that `occasion` names, and from time to
    /// time. Returns what the last try came to.
    pub fn probe<E: Engine>(
        &self,
        set: &SetKey,
        identity: &Identity,
        address: IpAddr,
        password: Option<Password>,
        occasion: &str,
    ) -> Option<Known<Answer>> {
        // Whoever changes it makes the next try due.
        let login = password.as_ref().map(|p| hash(p.expose()));
        let target = Target {
            address,
            password,
            host: format!(
                "{}.{}.svc",
                names::primary_service(&set.name),
                set.namespace
            ),
            tls: Arc::clone(&identity.probe),
        };
        let (waker, before) = (self.waker(set), self.probes.last(set));
        let token = format!("{address} {} {login:?} {occasion}", identity.token);
        self.probes
            .want_on(set, &token, |to| probe::<E>(target, before, to, waker));
        self.probes.last(set)
    }

    /// Whether somebody was asked and has not answered even once, be it with an error.
    pub fn awaits(&self, set: &SetKey, instances: &[Instance]) -> bool {
        let silent = |instance: &Instance| {
            let Some(pod) = &instance.pod else {
                return false;
            };
            let key = (set.clone(), pod.uid.clone());
            let asked = self.agents.runs(&key) && self.agents.last(&key).is_none();
            asked || (self.served.runs(&key) && self.served.last(&key).is_none())
        };
        (self.probes.runs(set) && self.probes.last(set).is_none()) || instances.iter().any(silent)
    }

    /// The primary does not serve: what the Service answered before counts no more.
    pub fn forget_probe(&self, set: &SetKey) {
        self.probes.forget(set);
    }

    /// The certificate that an instance's engine serves, looked at again when its agent says
    /// that it changed.
    pub fn served<E: Engine>(
        &self,
        set: &SetKey,
        identity: &Identity,
        instance: &Instance,
    ) -> Option<Served> {
        let pod = instance.pod.as_ref()?;
        let agent = instance.agent()?;
        if agent.role == InstanceRole::Unknown || agent.phase != api::Phase::Running {
            return None;
        }
        let address = address(pod.ip.as_deref(), i32::from(E::PORT))?;
        let key = (set.clone(), pod.uid.clone());
        let serial = agent.certificate_serial.as_deref().unwrap_or_default();
        let token = format!("{address} {serial} {}", identity.token);
        let host = names::instance_host(&instance.name, &set.name, &set.namespace);
        let (tls, waker) = (Arc::clone(&identity.probe), self.waker(set));
        self.served
            .want(&key, &token, |to| look::<E>(address, host, tls, to, waker));
        self.served.last(&key)?.known().cloned()
    }

    /// Have an agent take over the configuration; it is tried until the agent has done so, or until
    /// the pod or the wish is gone.
    pub fn reload(
        &self,
        set: &SetKey,
        identity: &Identity,
        instance: &Instance,
        config_hash: &str,
    ) {
        let Some((key, client)) = client(set, identity, instance) else {
            return;
        };
        let (hash, name) = (config_hash.to_owned(), instance.name.clone());
        if !self.reloads.runs(&key) {
            // It ended, and the agent still reports another one: once more.
            self.reloads.forget(&key);
        }
        self.reloads.want(&key, config_hash, |_| async move {
            let mut client = client;
            let mut pause = PAUSE.0;
            while let Err(error) = client.reload(&hash).await {
                tracing::info!(instance = name, %error, "the configuration is not in force yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        });
    }

    /// Whether a restart, hand-over or upgrade goes on, or has ended and the status that shows so has not
    /// come yet.
    pub fn is_under_order(&self, set: &SetKey, instance: &Instance) -> bool {
        let Some(pod) = &instance.pod else {
            return false;
        };
        let key = (set.clone(), pod.uid.clone());
        if self.orders.runs(&key) {
            return true;
        }
        match (self.orders.last(&key), instance.agent()) {
            (Some(Ended::Done(nonce, sequence)), Some(status)) => {
                status.nonce == nonce && status.sequence < sequence
            }
            _ => false,
        }
    }

    /// Why the last restart or hand-over of an instance was refused, if it was, and how often in a row.
    pub fn refusal(&self, set: &SetKey, instance: &Instance) -> Option<(String, u32)> {
        let key = (set.clone(), instance.pod.as_ref()?.uid.clone());
        match self.orders.last(&key)? {
            Ended::Refused(why, count) => Some((why, count)),
            Ended::Done(..) => None,
        }
    }

    /// Have an engine restarted, once; a failure is seen in the next status. The caller has asked
    /// [`Self::is_under_order`] before.
    pub fn restart(&self, set: &SetKey, identity: &Identity, instance: &Instance, why: &str) {
        let why = why.to_owned();
        let restart = |mut client: AgentClient, nonce: String| async move {
            client.restart(&nonce, &why).await
        };
        self.order(set, identity, instance, "restart", restart);
    }

    /// Have a primary hand over, once. The caller has asked [`Self::is_under_order`] before.
    pub fn hand_over(
        &self,
        set: &SetKey,
        identity: &Identity,
        instance: &Instance,
        to: &str,
        why: &str,
    ) {
        let (to, why) = (to.to_owned(), why.to_owned());
        let hand_over = |mut client: AgentClient, nonce: String| async move {
            client.hand_over(&nonce, &to, &why).await
        };
        self.order(set, identity, instance, "hand-over", hand_over);
    }

    /// Have an agent go on as another program, once. The caller has asked [`Self::is_under_order`]
    /// before.
    pub fn upgrade(
        &self,
        set: &SetKey,
        identity: &Identity,
        instance: &Instance,
        own: &Own,
        why: &str,
    ) {
        let (own, why, sending) = (own.clone(), why.to_owned(), Arc::clone(&self.sending));
        let upgrade = |mut client: AgentClient, nonce: String| async move {
            // It is never closed.
            let _place = sending.acquire_owned().await;
            let sha256 = &own.program.sha256;
            client.upgrade(&nonce, &own.path, sha256, &why).await
        };
        self.order(set, identity, instance, "upgrade of the agent", upgrade);
    }

    fn order<F>(
        &self,
        set: &SetKey,
        identity: &Identity,
        instance: &Instance,
        what: &'static str,
        order: impl FnOnce(AgentClient, String) -> F,
    ) where
        F: Future<Output = Result<Status, ClientError>> + Send + 'static,
    {
        let Some((key, client)) = client(set, identity, instance) else {
            return;
        };
        let Some(status) = instance.agent() else {
            return;
        };
        let (order, name) = (order(client, status.nonce.clone()), instance.name.clone());
        let waker = self.waker(set);
        let before = self.refusal(set, instance).map_or(0, |(_, count)| count);
        self.orders.forget(&key);
        self.orders.want(&key, "", |to| async move {
            match order.await {
                Ok(status) => {
                    tracing::info!(instance = name, what, "done");
                    to.report(Ended::Done(status.nonce, status.sequence));
                    // What the agent says of settings may still be from before the restart.
                    tokio::time::sleep(LOOKED_AGAIN).await;
                }
                Err(error) => {
                    tracing::warn!(instance = name, what, %error, "not done");
                    to.report(Ended::Refused(error.to_string(), before + 1));
                    waker();
                    // Not again at once: the pass that follows would decide the same.
                    tokio::time::sleep(PAUSE.1).await;
                }
            }
            waker();
        });
    }

    /// End every conversation with sets that are gone.
    pub fn retain(&self, keep: impl Fn(&SetKey) -> bool) {
        self.probes.retain(&keep);
        self.reloads.retain(|key| keep(&key.0));
        self.orders.retain(|key| keep(&key.0));
        self.agents.retain(|key| keep(&key.0));
        self.reports.retain(|key| keep(&key.0));
        self.asked.retain(|key| keep(&key.0.0));
        self.served.retain(|key| keep(&key.0));
    }
}

fn client(set: &SetKey, identity: &Identity, instance: &Instance) -> Option<(PodKey, AgentClient)> {
    let pod = instance.pod.as_ref()?;
    let address = address(pod.ip.as_deref(), names::AGENT_PORT)?;
    let host = names::instance_host(&instance.name, &set.name, &set.namespace);
    let client = AgentClient::new(address, &host, Arc::clone(&identity.agents)).ok()?;
    Some(((set.clone(), pod.uid.clone()), client))
}

fn address(ip: Option<&str>, port: i32) -> Option<SocketAddr> {
    Some(SocketAddr::new(
        ip?.parse().ok()?,
        u16::try_from(port).ok()?,
    ))
}

async fn probe<E: Engine>(
    target: Target,
    before: Option<Known<Answer>>,
    to: Reporter<SetKey, Known<Answer>>,
    wake: impl Fn() + Send,
) {
    let mut pause = PAUSE.0;
    let mut last = before;
    loop {
        let answer = match E::probe(&target).await {
            Ok(answer) => Known::Known(answer),
            Err(error) => Known::Unreachable(sentence(&error)),
        };
        let ok = answer.known().is_some();
        to.report(answer.clone());
        if last.as_ref() != Some(&answer) {
            wake();
        }
        last = Some(answer);
        let rest = if ok {
            pause = PAUSE.0;
            PROBE_EVERY
        } else {
            pause = (pause * 2).min(PAUSE.1);
            pause
        };
        tokio::time::sleep(rest).await;
    }
}

/// An error with what caused it: the outer one alone often only says "error connecting".
fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let words = inner.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = inner.source();
    }
    text
}

async fn look<E: Engine>(
    address: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    to: Reporter<PodKey, Known<Served>>,
    wake: impl Fn() + Send,
) {
    let mut pause = PAUSE.0;
    loop {
        let seen = tokio::time::timeout(PATIENCE, shown::<E>(address, &host, &tls)).await;
        let seen = match seen {
            Ok(Ok(served)) => Known::Known(served),
            Ok(Err(error)) => Known::Unreachable(error),
            Err(_) => Known::Unreachable(format!("{host} did not shake hands in time")),
        };
        let ok = seen.known().is_some();
        if let Known::Unreachable(error) = &seen {
            tracing::debug!(%host, error, "the served certificate was not seen");
        }
        if to.report(seen) && ok {
            wake();
        }
        pause = if ok {
            PAUSE.0
        } else {
            (pause * 2).min(PAUSE.1)
        };
        tokio::time::sleep(if ok { LOOK_EVERY } else { pause }).await;
    }
}

/// The engine's own preamble, then the handshake.
async fn shown<E: Engine>(
    address: SocketAddr,
    host: &str,
    tls: &Arc<ClientConfig>,
) -> Result<Served, String> {
    let mut tcp = TcpStream::connect(address)
        .await
        .map_err(|e| e.to_string())?;
    E::greet(&mut tcp, host).await?;
    served(tcp, host, Arc::clone(tls))
        .await
        .map_err(|e| sentence(&e))
}
