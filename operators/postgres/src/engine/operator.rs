//! The operator of PostgreSQL: that of every engine, for this one.

use mainstay_shared::operator::run;

pub use mainstay_shared::operator::run::run;

use super::Postgresql;

/// What it is told when it starts.
pub type Settings = run::Settings<Postgresql>;
