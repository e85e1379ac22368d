//! Handing over on request: a checkpoint while clients are served, a pause of poolers, the order to the
//! election, and the answer once somebody leads. I/O.

use std::sync::Arc;
use std::time::Duration;

use mainstay_shared::agent::api::HandOver;
use mainstay_shared::agent::clock::boottime;
use mainstay_shared::agent::hand_over::{Seen, outcome, successor};
use mainstay_shared::agent::server::{Answer, Refusal};
use mainstay_shared::agent::supervision::OCCUPIED;
use mainstay_shared::agent::task::Task;
use mainstay_shared::election::member::{Ballot, Member};
use mainstay_shared::election::message::{Order, Wanted};
use tokio::time::timeout;

use super::super::monitor::Sight;
use super::super::render::member;
use super::super::sql;
use super::Machine;

/// Bound of the checkpoint before: without it the stop takes longer, and nothing else.
const CHECKPOINT: Duration = Duration::from_mins(2);

/// A hand-over that was asked for.
pub(super) struct Handing {
    /// Who takes over.
    to: Member,
    /// Under which ballot it was asked for.
    ballot: Ballot,
    pub(super) checkpoint: Option<Task<Result<(), String>>>,
    /// When the election was asked.
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
                let place = Arc::clone(&self.place);
                let poolers = self.poolers_to_pause();
                self.handing = Some(Handing {
                    to,
                    ballot,
                    // What is on disk already need not be written while nobody can write.
                    checkpoint: Some(Box::pin(async move {
                        let made = match timeout(CHECKPOINT, sql::checkpoint(&place)).await {
                            Ok(made) => made.map_err(|e| e.to_string()),
                            Err(_) => Err("the checkpoint takes too long".to_owned()),
                        };
                        if let Some(poolers) = poolers {
                            poolers.pause().await;
                        }
                        made
                    })),
                    since: Duration::MAX,
                    answer,
                });
            }
        }
    }

    fn can_hand_over(&self, to: &str) -> Result<(Member, Ballot), String> {
        if self.is_occupied() || self.leaving {
            return Err(OCCUPIED.to_owned());
        }
        let member = self.successor(to)?;
        match self.wanted() {
            Wanted::Primary { ballot, .. } => Ok((member, ballot)),
            _ => Err("this instance is no primary".to_owned()),
        }
    }

    fn successor(&self, to: &str) -> Result<Member, String> {
        let sight = self.monitor.sight.borrow();
        let seen = match &*sight {
            Sight::Up { vitals, .. } => {
                let flushed = vitals.flushed.iter();
                let flushed = flushed.filter_map(|(name, end)| Some((member(name)?, *end)));
                Some((vitals.position, flushed))
            }
            _ => None,
        };
        successor(to, &self.wanted(), seen, self.charter().as_ref())
    }

    /// The checkpoint is made, or was given up.
    pub(super) fn checkpointed(&mut self, made: Result<(), String>) {
        if let Err(why) = made {
            tracing::warn!(%why, "no checkpoint before the hand-over");
        }
        let Some(name) = self.handing.as_ref().map(|h| h.to.name.clone()) else {
            return;
        };
        // It took its time.
        let again = self.successor(name.as_str());
        let (Some(handing), Some(cluster)) = (&mut self.handing, &self.cluster) else {
            return;
        };
        handing.checkpoint = None;
        if let Err(why) = again {
            if let Some(handing) = self.handing.take() {
                let _ = handing.answer.send(Err(Refusal::Impossible(why)));
            }
            return;
        }
        handing.since = boottime();
        // A queue that is full is noticed as an order that was not heard.
        let _ = cluster
            .driver
            .orders
            .try_send(Order::HandOver(Some(handing.to.clone())));
    }

    /// Answer who asked for the hand-over, once it is known what came of it.
    pub(super) fn answer_hand_over(&mut self) {
        let Some(handing) = &self.handing else { return };
        if handing.checkpoint.is_some() {
            return;
        }
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
}
