//! The election as a running thing: what drives [`crate::election::machine::Machine`] in an agent.
//! Engine-neutral.
//!
//! # How an engine's agent uses it
//! 1. Open the [`crate::agent::state::Store`], make a [`driver::Config`], and call
//!    [`driver::spawn`]. The driver lives on a thread of its own until the process ends: nothing
//!    that blocks elsewhere in the process delays its deadline.
//! 2. Give [`driver::Handle::door`] to the agent's server
//!    ([`crate::agent::server::Interface::election`]): peers talk to the driver through it.
//! 3. Bring the engine to [`driver::Handle::wanted`] whenever that changes, and tell what *is*
//!    through [`driver::Handle::engine`]: see [`crate::election::message::Engine`]. While the engine
//!    is on its way from one to the other, and whenever in doubt, say `Engine::Unknown`, before the
//!    first step is taken. A primary is told again at every health check (at least every
//!    [`crate::election::policy::Timing::renew`]).
//! 4. `Wanted::Primary`: which epoch claimed the timeline is durable before it is shown. Under
//!    `Wanted::Follow` the engine's agent calls [`crate::agent::state::Store::claimed`] with the
//!    charter's timeline and epoch once it streams on it, and before it streams compares: a timeline
//!    known under another epoch is a parted history. [`driver::Handle::leader`] says where to stream
//!    from.
//! 5. Before data of which the driver was ever told is thrown away (a copy anew), call
//!    [`driver::Handle::renew`] and wait for it: the instance is a new member from then on, which has
//!    promised and claimed nothing. An empty volume, and data that was never finished, need none.
//! 6. Beat the heart of PID 1 only while [`driver::Handle::turned`] is recent.

mod disk;
pub mod door;
pub mod driver;
pub mod hard_stop;
pub mod lease;
mod leases;
mod peers;
mod reach;
pub mod record;
mod roster;
mod run;
mod tenure;
pub mod wire;
