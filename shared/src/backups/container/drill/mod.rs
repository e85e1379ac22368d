//! The frame of a drill: what a restore has brought back is looked at as its users would. I/O; what was found is told by
//! [`words`].
//!
//! It runs after [`super::restoring`], in the same pod and on the same volume, in a container that has no key and no
//! credentials: what users ask runs here. The engine starts on the data where nobody else reaches it, and all checks are
//! made, also after one that fails: who reads the report wants to know whether it is one table or everything. The data is
//! thrown away with the volume.

pub mod words;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use mainstay_backup::drill::DrillReport;
use serde::de::DeserializeOwned;

use super::restoring::{RestoreReport, RestoreStep, make};
use super::settings::{DRILL_FILE, RESTORE_STATUS, TERMINATION_MESSAGE};
use super::told_to_stop;
use crate::agent::paths::{self, under};
use crate::agent::state::absent;
use words::{Findings, last_words};

/// A drill that did not pass, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// What it is told, or where it runs.
    #[error("{0}")]
    Setting(String),
    /// It was made, and does not pass: its last words say why.
    #[error("{0}")]
    NotPassed(String),
}

impl DrillError {
    /// What it is told, or where it runs.
    pub fn setting(error: impl std::fmt::Display) -> Self {
        Self::Setting(error.to_string())
    }
}

/// Makes the drill below `root`, and leaves a [`DrillReport`] as last words. `look` gets the engine's settings `S`, what
/// the restore has reached, `R`, and the report, to which it adds what the engine alone knows; it says what checks have
/// found, or why none could be made.
///
/// # Errors
/// It did not pass.
pub async fn run<S, R>(
    root: &Path,
    look: impl AsyncFnOnce(S, R, &mut DrillReport) -> Result<Findings, String>,
) -> Result<(), DrillError>
where
    S: DeserializeOwned,
    R: DeserializeOwned + Default,
{
    let told = told_to_stop().map_err(DrillError::setting)?;
    let mut report = DrillReport::default();
    let ended = tokio::select! {
        ended = drill(root, look, &mut report) => Some(ended),
        () = told => None,
    };
    report.ended = Some(Timestamp::now());
    match ended {
        Some(Ok(findings)) => findings.into_report(&mut report),
        Some(Err(why)) => report.message = why,
        None => "the drill was told to stop".clone_into(&mut report.message),
    }
    let words = last_words(&mut report);
    fs::write(under(root, TERMINATION_MESSAGE), words).map_err(DrillError::setting)?;
    tracing::info!(passed = report.passed, report.message, "the drill");
    if report.passed {
        Ok(())
    } else {
        Err(DrillError::NotPassed(report.message))
    }
}

async fn drill<S, R>(
    root: &Path,
    look: impl AsyncFnOnce(S, R, &mut DrillReport) -> Result<Findings, String>,
    report: &mut DrillReport,
) -> Result<Findings, String>
where
    S: DeserializeOwned,
    R: DeserializeOwned + Default,
{
    let settings: S = read(&under(root, paths::CONFIG).join(DRILL_FILE))?;
    let restored: RestoreReport<R> = read(&under(root, RESTORE_STATUS))?;
    let Some(reached) = restored
        .reached
        .filter(|_| restored.step == RestoreStep::Done)
    else {
        return Err(format!("nothing was restored: {}", restored.message));
    };
    report.backup = restored.backup;
    report.key = restored.key;
    report.bytes = restored.bytes;
    report.begun = restored.begun;
    look(settings, reached, report).await
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let failed = |e: String| format!("{}: {e}", path.display());
    let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    serde_json::from_str(&text).map_err(|e| failed(e.to_string()))
}

/// A folder for what the engine needs besides its data; it goes with this.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes it, empty.
    ///
    /// # Errors
    /// The volume; a sentence.
    pub fn make(folder: PathBuf) -> Result<Self, String> {
        let made: io::Result<()> = absent(fs::remove_dir_all(&folder)).and_then(|()| make(&folder));
        made.map_err(|e| format!("the data volume: {e}"))?;
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = absent(fs::remove_dir_all(&self.0)) {
            tracing::debug!(%error, "what the engine needed besides its data stays");
        }
    }
}
