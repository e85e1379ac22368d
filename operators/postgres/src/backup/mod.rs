//! Backups: the container beside PostgreSQL that stores its log and makes base backups, and restores.

pub mod api;
pub mod owner;
pub mod settings;
