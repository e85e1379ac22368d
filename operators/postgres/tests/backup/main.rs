//! Archive, base backups and recovery with real PostgreSQL, the real backup process, and real stores.
//!
//! `MAINSTAY_TEST_POSTGRES` names a folder of PostgreSQL's programs, to try another version than the newest
//! that is installed: increments need 17.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::needless_pass_by_value,
    clippy::format_collect,
    reason = "tests say what they expect by unwrapping it"
)]

mod archive;
mod damage;
mod drill;
mod figures;
mod full;
mod kit;
mod locked;
mod memory;
mod meter;
mod on_volume;
mod outages;
mod recovery;
mod seed;
mod shred;
mod size;
mod timelines;
#[path = "../common/volume.rs"]
mod volume;
