//! Lets log go that waits for the store before it fills the volume, where a person said so. I/O; how much is decided
//! in [`crate::room`].
//!
//! Beside the archiver, which may be in the middle of a request that nobody answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::local;
use super::state::{Shared, lock};
use crate::agent::sql;
use crate::room::{self, Seen};

/// How often the volume is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// And while log that waits is about to fill it.
const CLOSE: Duration = Duration::from_millis(250);

/// Files that were let go without being stored, and are there until PostgreSQL removes them.
#[derive(Debug, Default)]
struct Leaving {
    files: HashSet<String>,
    /// A checkpoint was asked for, with which they go.
    settled: bool,
}

/// Looks until the process ends.
pub async fn run(shared: Arc<Shared>) {
    let mut leaving = Leaving::default();
    loop {
        let asked = *lock(&shared.breaks_archive);
        let soon = asked.then(|| look(&shared, &mut leaving)).flatten();
        if !asked {
            leaving = Leaving::default();
        }
        sleep(soon.unwrap_or(LOOK)).await;
    }
}

/// One look. When the next one is due; none where it cannot be told, or later will do.
fn look(shared: &Arc<Shared>, leaving: &mut Leaving) -> Option<Duration> {
    // There may be no data yet, or it is being replaced.
    let look = local::look(&shared.place).ok()?;
    leaving.files.retain(|name| look.log.contains(name));
    let waiting: Vec<&String> = {
        let stored = lock(&shared.stored);
        let waits = |name: &&String| !stored.contains(*name) && look.is_whole(name);
        look.ready.iter().filter(waits).collect()
    };
    let bytes = |files: usize| look.file.saturating_mul(files as u64);
    let seen = Seen {
        size: look.size,
        free: look.free,
        waiting: bytes(waiting.len()),
        file: look.file,
    };
    let count = room::let_go(&seen, bytes(leaving.files.len()));
    for name in waiting.into_iter().take(usize::try_from(count).ok()?) {
        tracing::error!(
            name,
            "let go without being archived, as it is set: log that waits has nearly filled the volume"
        );
        lock(&shared.live).archive.let_go += 1;
        leaving.files.insert(name.clone());
        leaving.settled = false;
        shared.let_go(name);
    }
    // PostgreSQL removes them at its next checkpoint, once it knows of all.
    let known = leaving.files.iter().all(|name| !look.ready.contains(name));
    if known && !leaving.files.is_empty() && !leaving.settled {
        leaving.settled = true;
        let place = Arc::clone(&shared.place);
        tokio::spawn(async move {
            if let Err(error) = sql::checkpoint(&place).await {
                tracing::warn!(%error, "no checkpoint, so that log which was let go stays");
            }
        });
    }
    seen.is_close().then_some(CLOSE)
}
