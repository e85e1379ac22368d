//! Looking after backups: when one is due, who makes it, what became of it, what is kept, and whether the
//! whole is healthy. Values in, values out; [`follow`] alone does I/O.
//!
//! Containers beside the engines make backups and store the log ([`mainstay_backup::api`]). They are told
//! what to do and tell what came of it; nothing of that is remembered here. What is asked for stands in
//! `Backup` objects, and in their status before anybody is asked: so an operator that starts anew goes on
//! where the one before was, and asks again what may have been asked already, which is harmless.

#[cfg(feature = "backup")]
pub mod container;
pub mod cron;
#[cfg(feature = "backup")]
pub mod destroy;
#[cfg(feature = "backup")]
pub mod drill;
#[cfg(all(test, feature = "backup"))]
mod fixture;
#[cfg(feature = "backup")]
pub mod follow;
#[cfg(feature = "backup")]
pub mod health;
#[cfg(feature = "backup")]
pub mod keep;
#[cfg(feature = "backup")]
pub mod last;
#[cfg(feature = "backup")]
pub mod plan;
#[cfg(feature = "backup")]
pub mod restores;
#[cfg(feature = "backup")]
pub mod schedule;
#[cfg(feature = "backup")]
mod words;

#[cfg(feature = "backup")]
pub use self::setting::{Ask, Member, Setting};

#[cfg(feature = "backup")]
mod setting;
