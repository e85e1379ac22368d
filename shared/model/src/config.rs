//! What a model explores: how many members, which faults, and how much of each.

use std::time::Duration;

use crate::election::policy::{Durability, Policy, Timing};
use crate::election::rules::Rules;
use crate::world::World;

/// Bounds of an exploration. Whatever is not bounded here happens in any order and at any time:
/// delivery of messages (or never), looks at the Lease (or never), writes of it, streaming.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent faults")]
pub struct Config {
    pub members: usize,
    pub durability: Durability,
    pub rules: Rules,
    /// Zones of the instances, in turn; none: zones do not count.
    pub zones: &'static [&'static str],
    /// Members that could not lead once the set is formed: their volumes are full.
    pub full: &'static [usize],
    /// The generation is not minted anew with a new disk.
    pub same_name: bool,
    /// Engines do at once what their agents want; else at any time later.
    pub eager_engines: bool,
    /// A crash may come before what was given to the disk is there.
    pub slow_disks: bool,
    /// A standby's flush is heard of later, or never.
    pub late_flushes: bool,
    /// Highest epoch that is explored.
    pub epochs: u64,
    /// Writes of clients.
    pub writes: usize,
    /// Clients try unanswered writes again.
    pub retries: bool,
    /// What has happened before the exploration begins.
    pub before: fn(&Self, &mut World),
    /// Members to whom the Lease seems expired from the beginning.
    pub expired: &'static [usize],
    /// How often a member's own clock runs far ahead of all others'.
    pub lapses: u8,
    /// Crashes, each with a restart at any time later, or none.
    pub crashes: u8,
    /// Ends of a primary's process in which all that it had in memory is lost.
    pub ends: u8,
    /// Who has lost its memory says what it has left, as if that were all that it ever acknowledged.
    pub tells_of_what_is_left: bool,
    /// Volumes lost.
    pub replaced: u8,
    /// The old pod of a lost volume lives on.
    pub lives_on: bool,
    /// Deletions of the Lease.
    pub deleted: u8,
    /// Restorations of an old Lease, as after a restore of etcd.
    pub restored: u8,
    /// Answers of the API server that are lost, and writes that arrive late.
    pub lost: u8,
    /// Hand-overs asked for.
    pub orders: u8,
    /// Freezes of a whole container (with clocks only).
    pub pauses: u8,
    /// Outages of the API server (with clocks only).
    pub outages: u8,
    /// Clocks advance together, each at its own rate: milliseconds per unit of time; none: each
    /// member's clock is what it likes.
    pub rates: Option<[u16; 3]>,
    /// Units of time.
    pub time: u16,
}

impl Config {
    /// Three members, nothing goes wrong but that messages and looks come late or never.
    pub const CALM: Self = Self {
        members: 3,
        durability: Durability::Required,
        rules: Rules::ALL,
        zones: &[],
        full: &[],
        same_name: false,
        eager_engines: true,
        slow_disks: false,
        late_flushes: false,
        epochs: 2,
        writes: 1,
        retries: false,
        before: |_, _| {},
        expired: &[],
        lapses: 0,
        crashes: 0,
        ends: 0,
        tells_of_what_is_left: false,
        replaced: 0,
        lives_on: false,
        deleted: 0,
        restored: 0,
        lost: 0,
        orders: 0,
        pauses: 0,
        outages: 0,
        rates: None,
        time: 0,
    };

    pub fn timing(&self) -> Timing {
        let second = Duration::from_secs;
        Timing {
            duration: second(6),
            deadline: second(4),
            // Without clocks a term lasts until its holder's clock says otherwise.
            renew: second(if self.rates.is_some() { 1 } else { 2 }),
            health: second(4),
            stagger: Duration::ZERO,
            patience: second(5),
            stop: second(6),
        }
    }

    pub fn policy(&self) -> Policy {
        Policy {
            durability: self.durability,
            across_zones: !self.zones.is_empty(),
            max_lag: 0,
            timing: self.timing(),
        }
    }
}
