//! Asks the agent of whoever leads what its engine is, and keeps what is answered up to date. I/O; the rules are in
//! [`super::view`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mainstay_shared::agent::client::AgentClient;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::tell::set;
use mainstay_shared::names::AGENT_PORT;
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::view::{FRESH, Heard, Lead, Set, View};
use super::{Known, Sources};

/// A question waits so long for news, so that it is known all the time that who answers is there.
const WAIT: Duration = Duration::from_secs(1);
/// An answer takes no longer than that and this.
const LATE: Duration = Duration::from_secs(1);
/// Pause after an agent that could not be asked.
const PAUSE: Duration = Duration::from_millis(250);

/// Keep the view as it is known, for the life of the process.
pub async fn follow(mut sources: Sources, view: watch::Sender<Option<View>>) {
    let (told, mut heard) = watch::channel(None);
    tokio::spawn(listen(sources.clone(), told));
    let mut last: Option<Lead> = None;
    loop {
        let known = sources.known.borrow_and_update().clone();
        let heard_now = heard.borrow_and_update().clone();
        let now = boottime();
        let seen = known.set.as_ref().map(|set| {
            let ballot = known.leader.as_ref().map(|l| &l.ballot);
            View::of(set, ballot, heard_now.as_ref(), last.take(), now)
        });
        last = seen.as_ref().and_then(|seen| seen.last.clone());
        let stale = seen
            .as_ref()
            .and_then(|seen| seen.now.as_ref().and(heard_now.as_ref()))
            .map(|heard| (heard.at + FRESH).saturating_sub(now) + Duration::from_millis(1));
        set(&view, seen);
        let aged = async {
            match stale {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = sources.known.changed() => if changed.is_err() { return },
            changed = heard.changed() => if changed.is_err() { return },
            () = aged => {}
        }
    }
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Whom {
    /// Nobody: it is not asked for, or nobody leads.
    Nobody,
    /// This agent itself.
    Me(String),
    /// The agent of that instance, there.
    There(Arc<Set>, String, IpAddr),
}

fn whom(known: &Known) -> Whom {
    let (Some(set), Some(leader)) = (&known.set, &known.leader) else {
        return Whom::Nobody;
    };
    let name = leader.ballot.holder.member.name.as_str();
    match leader.address {
        _ if name == set.me => Whom::Me(name.to_owned()),
        Some(address) => Whom::There(Arc::clone(set), name.to_owned(), address),
        None => Whom::Nobody,
    }
}

/// Tell what whoever leads says, again and again.
async fn listen(mut sources: Sources, told: watch::Sender<Option<Heard>>) {
    loop {
        let of = whom(&sources.known.borrow_and_update());
        let mut known = sources.known.clone();
        let another = async {
            // Whatever else has changed is nothing to the conversation.
            let other = known.wait_for(|known| whom(known) != of).await;
            other.map(drop)
        };
        let ended = tokio::select! {
            other = another => other.is_err(),
            () = ask(&sources, of.clone(), &told) => true,
        };
        if ended {
            return;
        }
    }
}

async fn ask(sources: &Sources, whom: Whom, told: &watch::Sender<Option<Heard>>) {
    match whom {
        Whom::Nobody => std::future::pending().await,
        Whom::Me(name) => own(sources, &name, told).await,
        Whom::There(set, name, address) => {
            let mut tls = sources.tls.clone();
            loop {
                let Some(config) = tls.borrow_and_update().clone() else {
                    if tls.changed().await.is_err() {
                        return;
                    }
                    continue;
                };
                remote(&set, &name, address, config, told).await;
                sleep(PAUSE).await;
            }
        }
    }
}

/// What this agent says of itself, for as long as its loop turns.
async fn own(sources: &Sources, name: &str, told: &watch::Sender<Option<Heard>>) {
    let mut status = sources.status.clone();
    loop {
        let turned = Duration::from_secs(sources.turned.load(Ordering::Relaxed));
        let heard = Heard::read(name, turned, &status.borrow_and_update());
        tell(told, heard);
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = sleep(WAIT) => {}
        }
    }
}

/// Ask the agent there until it does not answer.
async fn remote(
    set: &Set,
    name: &str,
    address: IpAddr,
    tls: Arc<ClientConfig>,
    told: &watch::Sender<Option<Heard>>,
) {
    let port = u16::try_from(AGENT_PORT).unwrap_or_default();
    let client = AgentClient::new((address, port).into(), &set.host(name), tls);
    let Ok(mut client) = client else {
        return;
    };
    let mut after = None;
    loop {
        let at = boottime();
        match timeout(WAIT + LATE, client.status(after, WAIT)).await {
            Ok(Ok(status)) => {
                after = Some(status.sequence);
                tell(told, Heard::read(name, at, &status));
            }
            Ok(Err(error)) => {
                return tracing::debug!(%name, %error, "the primary's agent could not be asked");
            }
            Err(_) => return tracing::debug!(%name, "the primary's agent does not answer"),
        }
    }
}

/// Who knows nothing says nothing: what was heard before gets old.
fn tell(told: &watch::Sender<Option<Heard>>, heard: Option<Heard>) {
    if heard.is_some() {
        set(told, heard);
    }
}
