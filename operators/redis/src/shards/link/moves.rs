//! Slots that go from one member to another, those of the same two together. I/O: what comes next is decided in [`migrate`].

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::time::timeout;

use super::{ANSWER, LinkError, Links, connect, mute, wire};
use crate::resp::{Value, Words, words};
use crate::settings::CLUSTER_ROLE;
use crate::shards::migrate::{self, Next, TOGETHER, Way};
use crate::shards::plan::Move;
use crate::shards::topology::{Node, NodeId, Role, View};

/// No others are begun after this time: what became of all members meanwhile is looked at first.
const LONG: Duration = Duration::from_secs(5);
/// Longest wait until many slots are noted, on a disk that does much else.
const NOTED: Duration = Duration::from_secs(10);
/// Longest wait for the target of a `MIGRATE`, as the source counts it.
const TARGET: Duration = Duration::from_secs(5);
/// Longest wait for the answer to it.
const MIGRATED: Duration = Duration::from_secs(60);

/// From whom to whom.
struct Route {
    from: String,
    to: String,
    source: NodeId,
    target: NodeId,
}

impl Links {
    /// As many of them as there is time for, in this order.
    pub(super) async fn move_all(&mut self, moves: &[Move]) -> Result<(), LinkError> {
        let begun = Instant::now();
        for same in moves.chunk_by(|a, b| (&a.from, &a.to) == (&b.from, &b.to)) {
            let Some(first) = same.first() else { continue };
            let route = self.route(first)?;
            let all: Vec<u16> = same.iter().map(|step| step.slot).collect();
            let mut rest = all.as_slice();
            while !rest.is_empty() {
                if begun.elapsed() > LONG {
                    return Ok(());
                }
                let some: Vec<u16> = rest.iter().copied().take(TOGETHER).collect();
                let counts = self.count(&route, &some).await?;
                let (now, later) = rest.split_at(migrate::fit(&counts).clamp(1, rest.len()));
                self.move_together(&route, now).await?;
                rest = later;
            }
        }
        Ok(())
    }

    fn route(&self, step: &Move) -> Result<Route, LinkError> {
        Ok(Route {
            from: step.from.clone(),
            to: step.to.clone(),
            source: self.said(&step.from)?.me.clone(),
            target: self.said(&step.to)?.me.clone(),
        })
    }

    /// What it said when it was looked at last.
    fn said(&self, name: &str) -> Result<&View, LinkError> {
        let view = self.views.get(name);
        view.ok_or_else(|| LinkError::Unknown(name.to_owned()))
    }

    /// How far a slot had come.
    fn way(&self, route: &Route, slot: u16) -> Result<Way, LinkError> {
        let (source, target) = (self.said(&route.from)?, self.said(&route.to)?);
        let says = |view: &View, slots: fn(&Node) -> &BTreeMap<u16, NodeId>, other: &NodeId| {
            let me = view.myself();
            me.is_some_and(|me| slots(me).get(&slot) == Some(other))
        };
        let owns = |view: &View| view.myself().is_some_and(|me| me.slots.contains(slot));
        Ok(Way {
            arrived: owns(target),
            importing: says(target, |me| &me.importing, &route.source),
            migrating: says(source, |me| &me.migrating, &route.target),
            emptied: false,
            released: !owns(source),
        })
    }

    /// These go from wherever they were left.
    async fn move_together(&mut self, route: &Route, slots: &[u16]) -> Result<(), LinkError> {
        let ways = slots.iter().map(|slot| self.way(route, *slot));
        let mut ways: Vec<Way> = ways.collect::<Result<_, _>>()?;
        while let Some((next, which)) = migrate::together(&ways) {
            let some: Vec<u16> = which
                .iter()
                .filter_map(|at| slots.get(*at))
                .copied()
                .collect();
            let tell = |slot: &u16| migrate::command(next, *slot, &route.source, &route.target);
            let commands: Vec<Words> = some.iter().map(tell).collect();
            match next {
                Next::Import | Next::Take => self.tell_all(&route.to, &commands).await?,
                Next::Migrate | Next::Release => self.tell_all(&route.from, &commands).await?,
                Next::Keys => {
                    if !self.empty(route, &some).await? {
                        continue;
                    }
                }
                Next::Tell => {
                    self.tell_others(route, &commands).await;
                    return Ok(());
                }
            }
            for (at, way) in ways.iter_mut().enumerate() {
                if which.contains(&at) {
                    way.done(next);
                }
            }
        }
        Ok(())
    }

    /// How many keys the source has of each.
    async fn count(&mut self, route: &Route, slots: &[u16]) -> Result<Vec<u64>, LinkError> {
        let count = |slot: &u16| migrate::command(Next::Keys, *slot, &route.source, &route.target);
        let commands: Vec<Words> = slots.iter().map(count).collect();
        let answers = self.ask(&route.from, &commands, ANSWER).await?;
        counts(&route.from, answers)
    }

    /// Moves keys; says whether there were none.
    async fn empty(&mut self, route: &Route, slots: &[u16]) -> Result<bool, LinkError> {
        let from = &route.from;
        let count = |slot: &u16| migrate::command(Next::Keys, *slot, &route.source, &route.target);
        let mut commands: Vec<Words> = slots.iter().map(count).collect();
        // In one go, and last, so that it is the word of a primary that takes no new ones.
        commands.push(words(["CLUSTER", "NODES"]));
        let mut answers = self.ask(from, &commands, ANSWER).await?;
        let nodes = answers.pop().and_then(|nodes| nodes.text());
        let counts = counts(from, answers)?;
        if let Some(slot) = kept(&nodes.unwrap_or_default(), slots, &route.target) {
            return Err(LinkError::Otherwise {
                member: from.clone(),
                why: format!(
                    "it is no primary any more that lets slot {slot} go to {}",
                    route.to
                ),
            });
        }
        let mut left: Vec<(u16, u64)> = slots.iter().copied().zip(counts).collect();
        left.retain(|(_, count)| *count > 0);
        if left.is_empty() {
            return Ok(true);
        }
        loop {
            let pack = migrate::pack(&mut left, self.pace);
            if pack.is_empty() {
                return Ok(false);
            }
            self.move_keys(route, &pack).await?;
        }
    }

    /// So many keys of each of these slots.
    async fn move_keys(&mut self, route: &Route, pack: &[(u16, u16)]) -> Result<(), LinkError> {
        let from = &route.from;
        let get = |(slot, some): &(u16, u16)| {
            let (slot, some) = (slot.to_string(), some.to_string());
            words(["CLUSTER", "GETKEYSINSLOT", &slot, &some])
        };
        let commands: Vec<Words> = pack.iter().map(get).collect();
        let found = self.ask(from, &commands, ANSWER).await?;
        let place = self.places.get(&route.to);
        let place = place.ok_or_else(|| LinkError::Unknown(route.to.clone()))?;
        let (port, wait) = (
            place.address.port.to_string(),
            TARGET.as_millis().to_string(),
        );
        // What both have is the source's: see `migrate`.
        let head = [
            "MIGRATE",
            &place.address.host,
            &port,
            "",
            "0",
            &wait,
            "REPLACE",
            "AUTH2",
            CLUSTER_ROLE,
            self.access.password.expose(),
            "KEYS",
        ];
        let head: Vec<Vec<u8>> = head.iter().map(|word| word.as_bytes().to_vec()).collect();
        let mut commands = Vec::new();
        for keys in found {
            let keys = keys.accepted().map_err(|source| wire(from, source))?;
            let keys = keys.items().iter().filter_map(|key| match key {
                Value::Bulk(key) => Some(key.clone()),
                _ => None,
            });
            let keys: Vec<Vec<u8>> = keys.collect();
            if !keys.is_empty() {
                commands.push([head.clone(), keys].concat());
            }
        }
        let begun = Instant::now();
        for answer in self.ask(from, &commands, MIGRATED).await? {
            answer.accepted().map_err(|source| wire(from, source))?;
        }
        self.pace = migrate::pace(self.pace, begun.elapsed());
        Ok(())
    }

    async fn tell_all(&mut self, at: &str, commands: &[Words]) -> Result<(), LinkError> {
        for answer in self.ask(at, commands, NOTED).await? {
            answer.accepted().map_err(|source| wire(at, source))?;
        }
        Ok(())
    }

    /// The other primaries hear of it by themselves too, so nobody has to answer.
    async fn tell_others(&mut self, route: &Route, commands: &[Words]) {
        let is_other = |name: &String, view: &View| {
            view.is_primary() && *name != route.from && *name != route.to
        };
        let views = self.views.iter();
        let others: Vec<String> = views
            .filter(|(name, view)| is_other(name, view))
            .map(|(name, _)| name.clone())
            .collect();
        let mut asked = Vec::new();
        for name in others {
            let connection = self.open.remove(&name);
            let Some(place) = self.places.get(&name) else {
                continue;
            };
            let access = &self.access;
            asked.push(async move {
                let told = async {
                    let mut connection = match connection {
                        Some(connection) => connection,
                        None => connect(access, place).await?,
                    };
                    let told = timeout(ANSWER, connection.pipeline(commands)).await;
                    let told = told.map_err(|_| mute(&name))?;
                    for answer in told.map_err(|source| wire(&name, source))? {
                        answer.accepted().map_err(|source| wire(&name, source))?;
                    }
                    Ok::<_, LinkError>(connection)
                };
                let told = told.await;
                (name, told)
            });
        }
        for (name, told) in join_all(asked).await {
            match told {
                Ok(connection) => {
                    self.open.insert(name, connection);
                }
                Err(error) => {
                    tracing::debug!(%error, "it will hear of slots' owner by the others");
                }
            }
        }
    }
}

fn counts(member: &str, answers: Vec<Value>) -> Result<Vec<u64>, LinkError> {
    let count = |answer: Value| {
        let answer = answer.accepted().map_err(|source| wire(member, source))?;
        let count = answer.integer().and_then(|n| u64::try_from(n).ok());
        count.ok_or_else(|| LinkError::Otherwise {
            member: member.to_owned(),
            why: "it does not say how many keys a slot has".to_owned(),
        })
    };
    answers.into_iter().map(count).collect()
}

/// The first of these slots of which a member does not say that it owns it, as a primary, and lets it go to this one.
fn kept(nodes: &str, slots: &[u16], target: &NodeId) -> Option<u16> {
    let mut nodes = nodes.lines().filter_map(|line| line.parse::<Node>().ok());
    let me = nodes.find(|node| node.myself && node.role == Role::Primary);
    let goes = |slot: &u16| {
        me.as_ref()
            .is_some_and(|me| me.slots.contains(*slot) && me.migrating.get(slot) == Some(target))
    };
    slots.iter().copied().find(|slot| !goes(slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "07c37dfeb235213a872192d90877d0cd55635b91";
    const TO: &str = "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1";

    #[test]
    fn only_a_primary_that_lets_a_slot_go_says_that_it_has_no_keys_of_it() {
        let says = |flags: &str, slots: &str| {
            format!(
                "{ME} 10.0.0.1:6379@16379,db-1 {flags} - 0 0 1 connected {slots}\n{TO} 10.0.0.2:6379@16379,db-2 master - 0 0 2 connected 9-12\n"
            )
        };
        let kept = |nodes: &str| kept(nodes, &[5, 6], &TO.parse().unwrap());
        let goes = format!("5-7 [5->-{TO}] [6->-{TO}]");
        assert_eq!(kept(&says("myself,master", &goes)), None);
        assert_eq!(kept(&says("myself,slave", "")), Some(5), "it was succeeded");
        let half = format!("5-7 [5->-{TO}]");
        assert_eq!(kept(&says("myself,master", &half)), Some(6));
        let back = format!("5-7 [5->-{TO}] [6->-{ME}]");
        assert_eq!(kept(&says("myself,master", &back)), Some(6));
        let lost = format!("5 [5->-{TO}] [6->-{TO}]");
        assert_eq!(kept(&says("myself,master", &lost)), Some(6));
        assert_eq!(kept(""), Some(5));
    }
}
