//! Who may be primary.
//!
//! [`machine`] is the protocol, as a pure state machine: no I/O, no clock, no chance, and no word of
//! an engine. Agents drive it; the model in `shared/model` runs the same code through crashes, pauses,
//! lost disks, lost messages and deleted Leases. The argument why it is safe is in
//! `docs/adr/0009-election.md`.
//!
//! The words: a [`member::Member`] is an incarnation; a [`member::Ballot`] is an epoch with who
//! stands for it; a [`group::Group`] is a primary with the voters it waits for; a
//! [`charter::Charter`] is what the set has agreed on.

pub mod charter;
pub mod group;
pub mod machine;
pub mod member;
pub mod message;
pub mod policy;
pub mod rules;
pub mod wait;
