//! The types of every Mainstay resource, and the rules that their fields obey.
//!
//! No client and no I/O lives here: the operators, the command line and the tests share these
//! types, and `kubectl explain` shows their documentation.

pub mod access;
pub mod backup;
pub mod common;
pub mod definitions;
pub mod operation;
pub mod postgres;
pub mod redis;
pub mod restore;

/// API group of every kind.
pub const GROUP: &str = "mainstay.dev";
/// API version of every kind.
pub const VERSION: &str = "v1alpha1";
