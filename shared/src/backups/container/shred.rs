//! Removes the copies of destroyed keys from a repository (I/O), in a pod that has the store's credentials and no key.
//! What is removed [`mainstay_backup::shred`] decides.

use std::path::Path;
use std::time::Duration;

use mainstay_backup::shred::{ShredReport, ShredSettings, shred};
use mainstay_backup::store::Store;

use super::settings::{REPOSITORY, SECRETS, SHRED, TERMINATION_MESSAGE};
use crate::agent::paths::under;
use crate::agent::place::root;

/// How long what failed is waited for before another pod tries again.
const PAUSE: Duration = Duration::from_secs(10);

/// Nothing was destroyed, or not everything; the sentence says why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ShredError(pub String);

fn failed(error: impl std::fmt::Display) -> ShredError {
    ShredError(error.to_string())
}

/// Does what the environment says, and leaves a [`ShredReport`] as last words.
///
/// # Errors
/// Something is still there.
pub async fn run() -> Result<(), ShredError> {
    let told = super::told_to_stop().map_err(failed)?;
    let asked = std::env::var(SHRED).map_err(failed)?;
    let root = root();
    let report = tokio::select! {
        report = work(&asked, &root) => report,
        () = told => off("it was told to stop".to_owned()),
    };
    if report.passes {
        // Whoever makes the next pod then makes few of them.
        tokio::time::sleep(PAUSE).await;
    }
    let words = serde_json::to_string(&report).map_err(failed)?;
    std::fs::write(under(&root, TERMINATION_MESSAGE), words).map_err(failed)?;
    tracing::info!(
        report.done,
        report.removed,
        report.message,
        "the copies of the keys"
    );
    if report.done {
        Ok(())
    } else {
        Err(ShredError(report.message))
    }
}

/// Another try may come to something else.
fn off(message: String) -> ShredReport {
    ShredReport {
        message,
        passes: true,
        ..ShredReport::default()
    }
}

/// Does it with the secrets and the volume below `root`.
pub async fn work(asked: &str, root: &Path) -> ShredReport {
    let done = async {
        let settings: ShredSettings = serde_json::from_str(asked).map_err(|e| e.to_string())?;
        let (secrets, volume) = (under(root, SECRETS), under(root, REPOSITORY));
        let opened = settings.repository.settings(&secrets, &volume);
        let store = Store::open(&opened.map_err(|e| e.to_string())?).map_err(|e| e.to_string())?;
        shred(&store, &settings).await.map_err(|e| e.to_string())
    };
    done.await.unwrap_or_else(off)
}
