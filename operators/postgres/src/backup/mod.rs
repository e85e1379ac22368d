//! Backups: the container beside PostgreSQL that stores its log and makes base backups, and restores.

pub mod api;
pub mod coverage;
pub mod lineage;
pub mod owner;
pub mod settings;
pub mod wal;
