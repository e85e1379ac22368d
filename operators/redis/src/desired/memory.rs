//! How much of an instance's memory its data may take.

use crate::settings::Persistence;

/// Memory of the agent and of the process itself, in bytes.
const BASE: i64 = 64 << 20;

/// `maxmemory` in bytes, of an instance with so much memory.
///
/// What is left after agent and process is shared with a fork, which copies the pages that are written while it saves
/// or while a replica receives the dataset, and with buffers of replicas and clients: data gets three quarters. Where
/// nothing is saved there is one instance, hence no fork: nine tenths.
pub fn maxmemory(memory: i64, persistence: Persistence) -> i64 {
    let left = (memory - BASE).max(0);
    let (part, of) = match persistence {
        Persistence::Aof | Persistence::Rdb => (3, 4),
        Persistence::None => (9, 10),
    };
    left / of * part
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    #[test]
    fn a_fork_has_room_and_small_instances_have_some_data() {
        assert_eq!(maxmemory(512 * MIB, Persistence::Aof), 336 * MIB);
        assert_eq!(maxmemory(256 * MIB, Persistence::Rdb), 144 * MIB);
        let none = maxmemory(1024 * MIB, Persistence::None);
        assert_eq!(none, 864 * MIB);
        assert_eq!(maxmemory(0, Persistence::Aof), 0);
    }
}
