//! What of a repository goes, as a value. Pure; [`crate::prune`] carries it out.
//!
//! A policy promises recovery points: every moment of the window, and the newest backups by count. A
//! backup stays while anything promised needs it, or while any backup of its chain stays; a piece of the
//! log stays while a backup that stays may be recovered through it. What is not understood stays, and is
//! told: a backup whose parent is missing, a history of which nobody says where it comes from.

mod plan;

#[cfg(test)]
mod tests;

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ids::BackupId;
use crate::layout::Label;
use crate::manifest::LogNeed;
use crate::pieces::PieceKind;

pub use plan::{leftovers, needs, plan};

/// What is promised. Each promise holds by itself: a backup goes only when none needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Every moment since so long ago can be recovered.
    pub window: Option<SignedDuration>,
    /// So many of the newest backups stay, each with what it is based on.
    pub count: Option<u32>,
}

/// A backup, as far as retention cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupFact {
    /// Which one.
    pub id: BackupId,
    /// What it is based on.
    pub parent: Option<BackupId>,
    /// The moment that it restores to without a log.
    pub consistent_at: Timestamp,
    /// The log that it needs.
    pub log: Option<LogNeed>,
}

/// A piece of the log, as far as retention cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PieceFact {
    /// Its key.
    pub key: String,
    /// Its history.
    pub history: Label,
    /// Its name, which sorts as the log goes.
    pub piece: Label,
    /// What it is.
    pub kind: PieceKind,
    /// When it was stored, by the store's clock.
    pub stored: Timestamp,
}

/// A history, as far as retention cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryFact {
    /// Its name.
    pub history: Label,
    /// Where it comes from. `None`: nobody says.
    pub origin: Option<crate::pieces::Origin>,
}

/// Everything that a plan is made from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Backups with a manifest that was read.
    pub backups: Vec<BackupFact>,
    /// Pieces.
    pub pieces: Vec<PieceFact>,
    /// Histories.
    pub histories: Vec<HistoryFact>,
    /// The history that is written now. `None`: nobody knows, so any of them may be.
    pub live: Option<Label>,
}

/// Why a backup stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stays {
    /// The window begins after it, and it is the newest from before.
    BeginsWindow,
    /// It was made within the window.
    InWindow,
    /// It is one of the newest.
    Newest,
    /// A backup that stays is of its chain.
    Chain(BackupId),
    /// What it is based on is missing.
    Broken(BackupId),
    /// Nothing is promised, so nothing is let go.
    NoPolicy,
}

impl fmt::Display for Stays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BeginsWindow => f.write_str("the recovery window begins with it"),
            Self::InWindow => f.write_str("it is within the recovery window"),
            Self::Newest => f.write_str("it is one of the newest"),
            Self::Chain(id) => write!(f, "{id} of its chain stays"),
            Self::Broken(id) => write!(
                f,
                "it is based on {id}, which is missing: a person must look"
            ),
            Self::NoPolicy => f.write_str("nothing is ever let go"),
        }
    }
}

/// What goes and what stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Backups that go: those based on another before that other.
    pub expire: Vec<BackupId>,
    /// Backups that stay, with the reason.
    pub keep: Vec<(BackupId, Stays)>,
    /// Keys of pieces that go.
    pub pieces: Vec<String>,
    /// How many pieces stay.
    pub pieces_kept: usize,
}

impl Plan {
    /// Whether nothing goes.
    pub fn is_empty(&self) -> bool {
        self.expire.is_empty() && self.pieces.is_empty()
    }
}

/// A dry run is the plan, printed.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, why) in &self.keep {
            writeln!(f, "keep    {id}: {why}")?;
        }
        for id in &self.expire {
            writeln!(f, "delete  {id}")?;
        }
        writeln!(
            f,
            "log     {} pieces stay, {} are deleted",
            self.pieces_kept,
            self.pieces.len()
        )
    }
}
