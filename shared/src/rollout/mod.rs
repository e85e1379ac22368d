//! Roll-outs: at most one disruptive step per pass, chosen by named rules.
//!
//! A change is *live* (an object is applied), a *reload* (the agent takes over configuration), a
//! *restart* (of the engine in its pod) or a *replace* (of the pod on its volume). The last two
//! disturb clients, and an *upgrade* of the agent leaves the engine unattended for a moment, so they are proposed as [`Candidate`]s, and [`choose`] lets one through when
//! every [predicate](predicates) agrees. Refusals are not lost: they become `status.waitingFor`.

pub mod choose;
pub mod expectations;
pub mod predicates;
pub mod window;

pub use choose::{Candidate, Change, Choice, Setting, choose};
pub use expectations::Expectations;
pub use predicates::{held_back, unseen};
pub use window::{Door, Windows};
