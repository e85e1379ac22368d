//! When all is well: everything that is due happens, in turn, until nothing is left to do.

use crate::config::Config;
use crate::engine::Doing;
use crate::world::World;

/// One turn of everything, time not included.
pub fn turn(config: &Config, world: &mut World) {
    for i in 0..world.nodes.len() {
        if !world.nodes[i].up {
            world.start(config, i);
        }
        if world.nodes[i].paused {
            world.node(i).paused = false;
            world.pass(config, i, std::time::Duration::ZERO);
            world.see_engine(config, i);
        }
        world.save(config, i);
        world.look(config, i);
        world.write_lease(config, i, true);
        while world.engine_step(config, i) {}
        world.reloaded(config, i);
        world.tell_peers(config, i);
    }
    for letter in world.letters.clone() {
        for i in world.whose(&letter.to) {
            world.deliver(config, &letter, i);
        }
        world.letters.remove(&letter);
    }
    for from in 0..world.nodes.len() {
        let Some(ballot) = world.nodes[from].engine.leading().map(|l| l.ballot.clone()) else {
            continue;
        };
        for to in 0..world.nodes.len() {
            if world.nodes[to].engine.doing == Doing::Following(ballot.clone()) {
                world.replicate(config, from, to);
            }
        }
    }
    for flush in world.flushes.clone() {
        world.hear_flush(config, &flush);
    }
}

/// Turn until nothing changes, time standing still.
pub fn settle(config: &Config, world: &mut World) {
    for _ in 0..50 {
        let before = world.clone();
        turn(config, world);
        world.seal();
        if before == *world {
            return;
        }
    }
}

/// A second passes for everybody, and everything that is due happens.
pub fn second(config: &Config, world: &mut World) {
    for i in 0..world.nodes.len() {
        world.pass(config, i, std::time::Duration::from_secs(1));
    }
    for _ in 0..3 {
        turn(config, world);
    }
}

/// Whether one member lets clients in and all others stream from it.
pub fn whole(world: &World) -> bool {
    let [primary] = world.open()[..] else {
        return false;
    };
    let Some(leading) = world.nodes[primary].engine.leading() else {
        return false;
    };
    let follows = Doing::Following(leading.ballot.clone());
    (0..world.nodes.len()).all(|i| i == primary || world.nodes[i].engine.doing == follows)
}
