//! A model: slots move, replicas lag, and a backup is taken meanwhile, in any order of steps. What is not given up has every key.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::backup::shards::Slots;

/// Slots that have a key each. All others go with the first shard and never move.
const MOVING: u16 = 4;
const SHARDS: usize = 3;

/// A primary, what it has written, and how far its replica is.
struct Shard {
    me: Node,
    /// Slots whose key is there, after each write.
    history: Vec<BTreeSet<u16>>,
    replica: usize,
}

impl Shard {
    fn write(&mut self, change: impl FnOnce(&mut BTreeSet<u16>) -> bool) {
        let mut keys = self.history.last().unwrap().clone();
        assert!(change(&mut keys), "it was so already");
        self.history.push(keys);
    }

    fn has(&self, slot: u16) -> bool {
        self.history.last().unwrap().contains(&slot)
    }
}

/// A move: of which slot, from where, to where, and how far.
struct Going {
    slot: u16,
    from: usize,
    to: usize,
    step: u8,
}

struct World {
    shards: Vec<Shard>,
    going: Option<Going>,
}

fn id(n: usize) -> NodeId {
    format!("{n:040x}").parse().unwrap()
}

impl World {
    fn new() -> Self {
        let shards = (0..SHARDS).map(|n| {
            let mut slots: SlotSet = (0..MOVING)
                .filter(|s| usize::from(*s) % SHARDS == n)
                .collect();
            if n == 0 {
                slots.insert_range(Slots {
                    first: MOVING,
                    last: SLOTS - 1,
                });
            }
            let keys = slots.iter().filter(|s| *s < MOVING).collect();
            let me = Node {
                id: id(n),
                address: Some(Address {
                    host: format!("10.0.0.{n}"),
                    port: 6379,
                    bus: 16379,
                }),
                hostname: Some(format!("db-{n}.db-peers.shop.svc")),
                myself: true,
                role: Role::Primary,
                health: Health::Fine,
                handshake: false,
                epoch: n as u64 + 1,
                linked: true,
                slots,
                migrating: BTreeMap::new(),
                importing: BTreeMap::new(),
            };
            Shard {
                me,
                history: vec![keys],
                replica: 0,
            }
        });
        Self {
            shards: shards.collect(),
            going: None,
        }
    }

    /// What somebody who has heard everything says: a slot is whose claim is the latest.
    fn told(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = self.shards.iter().map(|s| s.me.clone()).collect();
        nodes.sort_by_key(|n| std::cmp::Reverse(n.epoch));
        let mut taken = SlotSet::default();
        for node in &mut nodes {
            node.slots = node.slots.without(&taken);
            taken.extend(&node.slots);
        }
        nodes
    }

    /// The next step of what moves; what does not move begins to.
    fn step(&mut self, choice: u8) {
        let Some(going) = &mut self.going else {
            let slot = u16::from(choice) % MOVING;
            let from = self
                .shards
                .iter()
                .position(|s| s.me.slots.contains(slot))
                .unwrap();
            let to = (from + 1 + usize::from(choice / 4) % (SHARDS - 1)) % SHARDS;
            self.going = Some(Going {
                slot,
                from,
                to,
                step: 0,
            });
            return;
        };
        let (slot, from, to) = (going.slot, going.from, going.to);
        let highest = self.shards.iter().map(|s| s.me.epoch).max().unwrap();
        match going.step {
            0 => drop(self.shards[to].me.importing.insert(slot, id(from))),
            // It is given up before a key has gone.
            1 if choice.is_multiple_of(8) => {
                self.shards[to].me.importing.clear();
                self.going = None;
                return;
            }
            1 => drop(self.shards[from].me.migrating.insert(slot, id(to))),
            2 => {
                self.shards[to].write(|keys| keys.insert(slot));
                self.shards[from].write(|keys| keys.remove(&slot));
            }
            3 => {
                let me = &mut self.shards[to].me;
                me.importing.clear();
                me.slots.insert(slot);
                if me.epoch != highest {
                    me.epoch = highest + 1;
                }
            }
            _ => {
                let me = &mut self.shards[from].me;
                me.migrating.clear();
                me.slots.remove(slot);
                self.going = None;
                return;
            }
        }
        going.step += 1;
    }

    /// Its replica receives one write more.
    fn receive(&mut self, n: usize) {
        let shard = &mut self.shards[n];
        shard.replica = (shard.replica + 1).min(shard.history.len() - 1);
    }
}

/// A backup on its way, as `receive` and `guard` do it.
struct Taking {
    parts: Vec<Part>,
    ends: Vec<usize>,
    looked: usize,
    taken: Vec<BTreeSet<u16>>,
    last: usize,
}

impl Taking {
    fn begin(world: &World) -> Result<Self, String> {
        Ok(Self {
            parts: parts(&world.told())?,
            ends: Vec::new(),
            looked: 0,
            taken: Vec::new(),
            last: 0,
        })
    }

    fn shard<'a>(&self, world: &'a World, n: usize) -> &'a Shard {
        let primary = &self.parts[n].primary.node;
        world.shards.iter().find(|s| s.me.id == *primary).unwrap()
    }

    /// One step; whether it is done.
    fn step(&mut self, world: &World) -> Result<bool, String> {
        if self.ends.len() == self.looked && self.looked < self.parts.len() {
            self.ends
                .push(self.shard(world, self.looked).history.len() - 1);
        } else if self.looked < self.parts.len() {
            let shard = self.shard(world, self.looked);
            self.parts[self.looked].holds(&shard.me)?;
            self.looked += 1;
        } else if self.taken.len() < self.parts.len() {
            let shard = self.shard(world, self.taken.len());
            // It is waited for that.
            if shard.replica >= self.ends[self.taken.len()] {
                self.taken.push(shard.history[shard.replica].clone());
            }
        } else if self.last < self.parts.len() {
            let shard = self.shard(world, self.last);
            self.parts[self.last].holds(&shard.me)?;
            self.last += 1;
        } else {
            return Ok(true);
        }
        Ok(false)
    }
}

/// Whether it came to a backup, which has everything then.
fn run(before: &[u8], steps: &[u8]) -> bool {
    let mut world = World::new();
    for choice in before {
        world.step(*choice);
    }
    let Ok(mut taking) = Taking::begin(&world) else {
        return false;
    };
    for choice in steps {
        match choice % 4 {
            0 => world.step(choice / 4),
            1 => world.receive(usize::from(choice / 4) % SHARDS),
            _ => match taking.step(&world) {
                Err(_) => return false,
                Ok(false) => {}
                Ok(true) => {
                    assert_whole(&world, &taking);
                    return true;
                }
            },
        }
    }
    false
}

fn assert_whole(world: &World, taking: &Taking) {
    for (part, keys) in taking.parts.iter().zip(&taking.taken) {
        let own: BTreeSet<u16> = part.slots.iter().filter(|s| *s < MOVING).collect();
        assert_eq!(*keys, own, "of {}", part.primary.name());
    }
    assert!((0..MOVING).all(|slot| world.shards.iter().any(|s| s.has(slot))));
}

#[test]
fn where_nothing_moves_it_is_made() {
    assert!(run(&[], &[2; 40]));
    // Two whole moves before, which replicas receive while it is waited for them.
    let received = [1, 5, 9].repeat(8);
    let moved = [4, 1, 1, 1, 1, 1, 5, 1, 1, 1, 1, 1];
    assert!(run(
        &moved,
        &[[2; 6].as_slice(), &[2; 9], &received, &[2; 20]].concat()
    ));
    // A move in its midst.
    let move_all = [0, 4, 4, 4, 4, 4];
    assert!(!run(
        &[],
        &[[2; 7].as_slice(), &move_all, &[2; 20]].concat()
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_not_given_up_has_every_key_once(
        before in prop::collection::vec(any::<u8>(), 0..20), steps in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        run(&before, &steps);
    }

    /// Rarely anything moves: most are made.
    #[test]
    fn few_moves_and_many_backups(
        before in prop::collection::vec(any::<u8>(), 0..20), rare in prop::collection::btree_map(0_usize..80, any::<u8>(), 0..4),
        common in prop::collection::vec(1_u8..4, 80),
    ) {
        let mut steps: Vec<u8> = common.iter().zip(0..).map(|(c, n): (&u8, u8)| c + 4 * (n % 3)).collect();
        for (at, choice) in rare {
            steps[at] = choice & !3;
        }
        run(&before, &steps);
    }
}
