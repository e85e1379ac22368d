//! Handing over: on request, and when the container ends. I/O.

use std::time::Duration;

use mainstay_shared::agent::api::HandOver;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::cluster::Cluster;
use mainstay_shared::agent::hand_over::{Seen, outcome, successor};
use mainstay_shared::agent::server::{Answer, Refusal};
use mainstay_shared::agent::supervision::OCCUPIED;
use mainstay_shared::election::member::{Ballot, Member};
use mainstay_shared::election::message::{Order, Wanted};

use super::super::heir;
use super::super::mark::Mark;
use super::super::render;
use super::super::session::Session;
use super::{Asked, Machine};

/// Writers are held back for so long at most; by then somebody else takes their writes, or this one does again.
const HELD_BACK: Duration = Duration::from_secs(5);

/// A hand-over that was asked for.
pub(super) struct Handing {
    /// Who takes over.
    to: Member,
    /// Under which ballot it was asked for.
    ballot: Ballot,
    since: Duration,
    answer: Answer,
}

impl Machine {
    /// Somebody asks for a hand-over.
    pub(super) fn hand_over(&mut self, wish: &HandOver, answer: Answer) {
        if wish.nonce != self.engine.nonce() {
            let _ = answer.send(Err(Refusal::Outdated));
            return;
        }
        match self.can_hand_over(&wish.to) {
            Err(why) => {
                let _ = answer.send(Err(Refusal::Impossible(why)));
            }
            Ok((to, ballot)) => {
                tracing::info!(%to, reason = wish.reason, "a hand-over was asked for");
                if let Some(cluster) = &self.cluster {
                    // A queue that is full is noticed as an order that was not heard.
                    let order = Order::HandOver(Some(to.clone()));
                    let _ = cluster.driver.orders.try_send(order);
                }
                self.handing = Some(Handing {
                    to,
                    ballot,
                    since: boottime(),
                    answer,
                });
            }
        }
    }

    fn can_hand_over(&self, to: &str) -> Result<(Member, Ballot), String> {
        if self.is_occupied() {
            return Err(OCCUPIED.to_owned());
        }
        let wanted = self.wanted();
        let seen = self.vitals().map(|(_, v)| (v.offset, v.flushed()));
        let charter = self.cluster.as_ref().and_then(Cluster::charter);
        let member = successor(to, &wanted, seen, charter.as_ref())?;
        match wanted {
            Wanted::Primary { ballot, .. } => Ok((member, ballot)),
            _ => Err("this instance is no primary".to_owned()),
        }
    }

    /// Answer who asked for the hand-over, once it is known what came of it.
    pub(super) fn answer_hand_over(&mut self) {
        let Some(handing) = &self.handing else { return };
        let cluster = self.cluster.as_ref();
        let leader = cluster.and_then(|c| c.driver.leader.borrow().clone());
        let outcome = outcome(&Seen {
            asked: &handing.ballot,
            waited: boottime().saturating_sub(handing.since),
            wanted: &self.wanted(),
            leader: leader.as_ref().map(|l| &l.ballot),
            me: &self.place.me.instance,
            because: &self.because(),
        });
        let Some(outcome) = outcome else { return };
        if let Some(handing) = self.handing.take() {
            if let Err(why) = &outcome {
                tracing::warn!(%why, "the hand-over");
            }
            let _ = handing.answer.send(outcome.map_err(Refusal::Impossible));
        }
    }

    /// The container ends: somebody else shall take over. It is refused where nobody can.
    pub(super) fn leave(&mut self, now: Duration) {
        if self.leaving.is_some() {
            return;
        }
        self.leaving = Some(now);
        if let Some(cluster) = &self.cluster {
            let _ = cluster.driver.orders.try_send(Order::HandOver(None));
        } else if self.is_followed() {
            self.part();
        }
    }

    /// The engine of a cluster's primary is about to end: one of its replicas is asked to take over. The operator has one do
    /// so as well; but it may be away, and of a pod that was deleted by force it knows nothing.
    fn part(&mut self) {
        let (Some((_, vitals)), Some(tls)) =
            (self.vitals(), self.channels.client_tls.borrow().clone())
        else {
            return;
        };
        let nodes = std::fs::read_to_string(self.place.nodes()).unwrap_or_default();
        let heirs = heir::heirs(&nodes, &vitals.replicas);
        let password = self.place.replication_password();
        self.parting = Some(Box::pin(
            async move { heir::ask(&heirs, tls, &password?).await },
        ));
    }

    /// Somebody was asked, or nobody could be: then the operator is waited for.
    pub(super) fn parted(&mut self, done: Result<String, String>) {
        self.parting = None;
        match done {
            Ok(heir) => {
                tracing::info!(
                    heir,
                    "a replica was asked to take over, since the container ends"
                );
                // It is a replica soon.
                self.monitor.look.notify_one();
            }
            Err(why) => tracing::warn!(%why, "no replica was asked to take over"),
        }
    }

    /// Hold writers back, have whoever takes over get everything, and become a replica of nobody.
    pub(super) fn yield_to_others(&mut self) {
        let Some((_, vitals)) = self.vitals() else {
            return;
        };
        let Some(mark) = vitals.mark.clone() else {
            return;
        };
        let mark = Mark {
            replid: vitals.replid.clone(),
            offset: vitals.offset,
            ..mark
        };
        // An earlier one may still hold them back.
        self.held_back.get_or_insert(boottime());
        self.tending = None;
        let to = self.handing.as_ref().map(|h| h.to.name.to_string());
        let (access, limits) = (self.access.clone(), self.limits(render::SHUT));
        self.asking = Some(Box::pin(async move {
            let mut session = Session::begin(&access).await.map_err(|e| e.to_string())?;
            let done = session
                .hand_over(&access, &mark, &limits, to.as_deref(), HELD_BACK)
                .await;
            done.map(Asked::HandedOver).map_err(|e| e.to_string())
        }));
    }

    /// Writers that are held back go on when they are led elsewhere, or have waited for long.
    pub(super) fn let_writers_go_on(&mut self) {
        let Some(since) = self.held_back else { return };
        if self.asking.is_some() {
            return;
        }
        let led_away = self.cluster.as_ref().is_some_and(|c| {
            let leader = c.driver.leader.borrow().clone();
            let other = leader
                .is_some_and(|l| l.ballot.holder.member.name.as_str() != self.place.me.instance);
            other && !*c.driver.leads_here.borrow()
        });
        if !led_away && boottime().saturating_sub(since) < HELD_BACK {
            return;
        }
        self.held_back = None;
        let access = self.access.clone();
        self.asking = Some(Box::pin(async move {
            let mut session = Session::begin(&access).await.map_err(|e| e.to_string())?;
            let done = session.resume().await;
            done.map(|()| Asked::Resumed).map_err(|e| e.to_string())
        }));
    }
}
