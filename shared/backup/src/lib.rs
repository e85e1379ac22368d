//! The backup repository: what is kept where, who may write it, and how it comes back.
//!
//! docs/repository.md has the layout for people. In short: an instance owns a prefix of a store
//! ([`owner`]); a backup is a folder of objects under a random id whose [`manifest`] is written last;
//! between backups an engine ships pieces of its log ([`pieces`]), where it has one. Objects are written
//! once and never again. What they hold is compressed with zstd and encrypted in the `age` format
//! ([`crypto`]), so that other programs can read them. [`retention`] decides as a value what goes.
//!
//! Decisions are functions of values; [`store`], [`stream`], [`repository`], [`catalogue`], [`run`] and
//! [`prune`] do I/O. No word of any engine stands here: an engine is a [`source`].

pub mod api;
pub mod catalogue;
pub mod crypto;
pub mod drill;
pub mod escrow;
mod hex;
pub mod ids;
pub mod layout;
pub mod manifest;
pub mod owner;
pub mod pieces;
pub mod prune;
pub mod repository;
pub mod retention;
pub mod run;
pub mod shred;
pub mod source;
pub mod spec;
pub mod store;
pub mod stream;
