#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "for tests only: it says what it expects"
)]
//! For tests only: an API server that keeps state and fails on demand, a cluster that runs pods
//! made in it, and agents that answer.
//!
//! [`api::FakeApi`] does what the real API server does as far as an operator can tell:
//! * create (with `generateName`), get, list, replace, merge, JSON and strategic patch, delete,
//!   delete of a collection; `status` as its own subresource; optimistic concurrency by
//!   resource version and uid, in updates, patches and deletes;
//! * server-side apply: fields left out are removed unless another manager applied them, conflicts
//!   unless forced, keyed lists merged, apply without effect changes nothing;
//! * generation, finalizers and deletion timestamps, graceful end of pods on a node, owner
//!   references ([`api::FakeApi::collect_garbage`], when told);
//! * watches with selectors, bookmarks, 410 after [`api::FakeApi::compact`], metadata only;
//! * defaults of Services, network policies, pods, claims and Secrets.
//!
//! It does *not* do: validation against schemas (a custom resource may hold anything), admission,
//! RBAC, quota (a [`api::Rule`] can refuse), paging (a list is always whole), other subresources,
//! discovery, API versions (an object is as it was written), managed fields in the object, ownership
//! by updates (only appliers own), strategic directives such as `$patch`, `sendInitialEvents`,
//! consistency of a list with the lag of watches, namespaces that must exist.
//!
//! Its own tests state the semantics that it imitates, and [`conformity::script`] runs on it and on a
//! real API server, whose answers must be the same (`cargo test -p mainstay-e2e --test admission`).

pub mod agent;
pub mod api;
pub mod cases;
pub mod cluster;
pub mod conformity;
pub mod drills;
pub mod engine;
pub mod fixtures;
pub mod objects;
pub mod postgres_cases;
pub mod redis_cases;
pub mod world;
