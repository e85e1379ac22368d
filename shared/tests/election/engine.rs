//! An engine as values: histories that are copied whole, and what may never happen to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use mainstay_shared::agent::clock::boottime;
use mainstay_shared::election::group::Group;
use mainstay_shared::election::member::{Ballot, Epoch, Member, Position};
use mainstay_shared::election::message::{Engine, Primary, Wanted};

/// One instance's engine and data.
#[derive(Clone, Debug, Default)]
pub struct Node {
    member: Option<Member>,
    /// End of its history; none without data.
    end: Option<(Position, u64)>,
    following: Option<Ballot>,
    primary: Option<Primary>,
    open: bool,
    sick: bool,
    /// Nobody streams from or to it.
    cut: bool,
}

/// All engines, and what they have acknowledged.
#[derive(Clone, Default)]
pub struct Engines(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    nodes: BTreeMap<String, Node>,
    /// Epoch and position of the last acknowledgement.
    acknowledged: Option<(Epoch, u64)>,
    count: u64,
    hard_stops: BTreeMap<String, u32>,
}

impl Engines {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Every process of that engine is gone; the data stays.
    pub fn kill(&self, name: &str) {
        let mut state = self.lock();
        let node = state.nodes.entry(name.to_owned()).or_default();
        (node.following, node.primary, node.open) = (None, None, false);
    }

    pub fn hard_stop(&self, name: &str) {
        self.kill(name);
        *self.lock().hard_stops.entry(name.to_owned()).or_default() += 1;
    }

    /// What it had on its disk is gone.
    pub fn lose_data(&self, name: &str) {
        self.kill(name);
        self.lock().nodes.entry(name.to_owned()).or_default().end = None;
    }

    /// Its health is not checked any more.
    pub fn sicken(&self, name: &str) {
        self.lock().nodes.entry(name.to_owned()).or_default().sick = true;
    }

    /// Its node reaches nobody, or everybody again.
    pub fn cut(&self, name: &str, cut: bool) {
        self.lock().nodes.entry(name.to_owned()).or_default().cut = cut;
    }

    pub fn hard_stops(&self, name: &str) -> u32 {
        self.lock().hard_stops.get(name).copied().unwrap_or(0)
    }

    /// The primary that lets clients in, with its epoch. It panics at two.
    pub fn open(&self) -> Option<(String, Epoch)> {
        let state = self.lock();
        let all: Vec<_> = state.nodes.iter().filter(|(_, n)| n.open).collect();
        assert!(all.len() < 2, "two primaries let clients in: {all:?}");
        let (name, node) = all.first()?;
        Some(((*name).clone(), node.primary.as_ref()?.ballot.epoch))
    }

    /// Writes acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.lock().count
    }

    /// Who streams under that epoch.
    pub fn followers(&self, epoch: Epoch) -> usize {
        let state = self.lock();
        let of = |n: &&Node| n.following.as_ref().is_some_and(|b| b.epoch == epoch);
        state.nodes.values().filter(of).count()
    }

    /// Bring one engine a step towards what is wanted, and say what it is then.
    pub fn turn(&self, name: &str, member: &Member, wanted: &Wanted) -> Engine {
        let mut state = self.lock();
        let mut node = state.nodes.remove(name).unwrap_or_default();
        node.member = Some(member.clone());
        let seen = step(&mut state, &mut node, wanted);
        state.nodes.insert(name.to_owned(), node);
        seen
    }
}

fn step(state: &mut State, node: &mut Node, wanted: &Wanted) -> Engine {
    match wanted {
        Wanted::Unchanged => {}
        Wanted::Initialise => {
            let start = Position {
                epoch: Epoch(0),
                lsn: 100,
            };
            node.end.get_or_insert((start, 1));
        }
        Wanted::Detached | Wanted::Stopped => {
            // An end in order waits until who streams has everything.
            if let (Wanted::Stopped, Some(primary)) = (wanted, &node.primary) {
                for other in state.nodes.values_mut() {
                    if other.following.as_ref() == Some(&primary.ballot) {
                        other.end = node.end;
                    }
                }
            }
            (node.following, node.primary, node.open) = (None, None, false);
        }
        Wanted::Follow(ballot) => {
            (node.primary, node.open) = (None, false);
            let source = state.nodes.values().find(|n| {
                let primary = n.primary.as_ref();
                primary.is_some_and(|p| p.ballot == *ballot) && !n.cut && !node.cut
            });
            if let Some(source) = source {
                node.end = source.end;
            }
            node.following = node.end.is_some().then(|| ballot.clone());
        }
        Wanted::Primary {
            ballot,
            timeline,
            group,
            open,
        } => lead(state, node, ballot, *timeline, group.as_ref(), *open),
    }
    // What runs goes on running whatever is wanted: it is told as it is.
    match (&node.primary, &node.following, node.end) {
        (Some(primary), _, _) => Engine::Primary(primary.clone()),
        (None, Some(ballot), _) => Engine::Following(ballot.clone()),
        (None, None, Some((position, timeline))) => Engine::Detached { position, timeline },
        (None, None, None) => Engine::Empty,
    }
}

fn lead(
    state: &mut State,
    node: &mut Node,
    ballot: &Ballot,
    timeline: u64,
    group: Option<&Group>,
    open: bool,
) {
    let Some((mut position, _)) = node.end else {
        return;
    };
    node.following = None;
    let fresh = node.primary.as_ref().is_none_or(|p| p.ballot != *ballot);
    if fresh && let Some((_, lsn)) = state.acknowledged {
        assert!(position.lsn >= lsn, "an acknowledged write is lost");
    }
    let before = node.primary.take().filter(|_| !fresh);
    let flushed: BTreeMap<Member, u64> = state
        .nodes
        .values()
        .filter(|n| n.following.as_ref() == Some(ballot) && !n.cut && !node.cut)
        .filter_map(|n| Some((n.member.clone()?, n.end?.0.lsn)))
        .collect();
    if let Some(group) = group.filter(|_| open && node.open && !fresh) {
        // What was written at the last turn, once enough have it.
        let has = |m: &&Member| flushed.get(*m).is_some_and(|lsn| *lsn >= position.lsn);
        if group.voters.iter().filter(has).count() >= group.acks {
            if let Some((epoch, _)) = state.acknowledged {
                assert!(ballot.epoch >= epoch, "an epoch that is over acknowledges");
            }
            state.acknowledged = Some((ballot.epoch, position.lsn));
            state.count += 1;
        }
    }
    let recovered = before.as_ref().map_or(position.lsn, |p| p.recovered);
    let same = before.as_ref().filter(|p| p.in_force.as_ref() == group);
    let since = same.map_or(position.lsn, |p| p.since);
    position.epoch = ballot.epoch;
    if open {
        position.lsn += 10;
    }
    let checked = before.as_ref().map(|p| p.healthy_at);
    let now = boottime().saturating_sub(Duration::from_millis(1));
    let healthy_at = checked.filter(|_| node.sick).unwrap_or(now);
    node.open = open;
    node.end = Some((position, timeline));
    node.primary = Some(Primary {
        ballot: ballot.clone(),
        recovered,
        lsn: position.lsn,
        in_force: group.cloned(),
        since,
        flushed,
        healthy_at,
    });
}
