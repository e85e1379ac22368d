//! An agent whose engine is a member of a cluster: when it may start. Values only.
//!
//! There is no election of ours: the engines elect. What the agent sees to is that a primary which did not end in order does
//! not come back before its replicas had the time to put one of them in its place: it may have lost what they have, and they
//! would follow it.

use std::ops::Range;
use std::time::Duration;

use crate::shards::topology::{Node, Role};

/// By then the others have elected, if they can: [`crate::shards::directives::NODE_TIMEOUT`], the word going round, the vote.
const ELECTED: Duration = Duration::from_secs(12);
/// In this time one of its replicas may be told to take over: not so early that what ran before in this pod's place may still
/// be there, unless it was seen to end; before the others vote by themselves; and with time left for the vote.
const YIELDS: Range<Duration> = Duration::from_secs(2)..Duration::from_secs(4);

/// What an engine that is about to be started waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// In words.
    pub why: &'static str,
    /// One of its replicas may be told to take over.
    pub yields: bool,
}

/// What an engine that is about to be started waits for, if it does.
///
/// `nodes`: what its engine noted of the cluster (`nodes.conf`). `orderly`: the one before ended in order, and wrote all that it
/// had. `down`: for how long it is known not to run. `seen`: it was seen to end.
pub fn waits(nodes: &str, orderly: bool, down: Duration, seen: bool) -> Option<Waits> {
    let guarded = !orderly && may_be_succeeded(nodes);
    (guarded && down < ELECTED).then_some(Waits {
        why: "the other members to elect one of its replicas, if they can: its engine did not end in order",
        yields: down < YIELDS.end && (seen || down >= YIELDS.start),
    })
}

/// Whether it was a primary with slots that somebody follows.
fn may_be_succeeded(nodes: &str) -> bool {
    followers(nodes).is_some_and(|(me, followers)| {
        me.role == Role::Primary && !me.slots.is_empty() && !followers.is_empty()
    })
}

/// By what its engine noted of the cluster (`nodes.conf`): the member itself, and who follows it.
pub fn followers(nodes: &str) -> Option<(Node, Vec<Node>)> {
    let nodes: Vec<Node> = nodes.lines().filter_map(|l| l.parse().ok()).collect();
    let me = nodes.iter().find(|n| n.myself)?.clone();
    let follower = Role::Replica(Some(me.id.clone()));
    let followers = nodes.into_iter().filter(|n| n.role == follower);
    Some((me, followers.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "07c37dfeb235213a872192d90877d0cd55635b91";
    const OTHER: &str = "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1";

    fn nodes(my_flags: &str, my_slots: &str, follows: &str) -> String {
        format!(
            "{ME} 10.0.0.1:6379@16379,db-1.db-peers.shop.svc {my_flags} - 0 0 1 connected {my_slots}\n\
             {OTHER} 10.0.0.2:6379@16379,db-2.db-peers.shop.svc slave {follows} 0 0 1 connected\n\
             vars currentEpoch 6 lastVoteEpoch 0\n"
        )
    }

    #[test]
    fn only_a_primary_that_somebody_may_succeed_waits_and_not_for_ever() {
        let led = nodes("myself,master", "0-5460", ME);
        let just = Duration::from_secs(1);
        let yields = |down, seen| waits(&led, false, down, seen).unwrap().yields;
        assert!(yields(just, true) && !yields(just, false));
        assert!(yields(YIELDS.start, false));
        assert!(!yields(YIELDS.end, true), "the others vote");
        assert_eq!(waits(&led, true, just, true), None, "it has everything");
        assert_eq!(
            waits(&led, false, ELECTED, true),
            None,
            "nobody was elected"
        );
        let alone = nodes("myself,master", "0-5460", OTHER);
        assert_eq!(waits(&alone, false, just, true), None);
        let bare = nodes("myself,master", "", ME);
        assert_eq!(waits(&bare, false, just, true), None);
        let replica = nodes("myself,slave", "", ME);
        assert_eq!(waits(&replica, false, just, true), None);
        assert_eq!(waits("", false, just, true), None, "a new member");
    }
}
