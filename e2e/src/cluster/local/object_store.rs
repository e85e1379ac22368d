//! The cluster's object store: in the outer namespace, where pods reach it as they reach the API server.

use std::time::{Duration, Instant};

use super::launch::Launch;
use super::layout::{Layout, OUTER};
use super::records::Record;
use super::{LocalError, helper};
use crate::cluster::ClusterError;
use crate::object_store::{CLIENT, Files, ObjectStore, PORT};
use crate::{process, tools};

/// Its name among the cluster's processes.
const NAME: &str = "object-store";
/// Longest time until it answers; usually less than a second.
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Starts it, unless it runs, and waits until it answers.
///
/// Only now is its program built: clusters that need none do not wait for it.
pub(super) async fn start(layout: &Layout, anchor: Record) -> Result<ObjectStore, ClusterError> {
    let address = OUTER.to_string();
    let files = Files::new(&layout.file(NAME));
    let runs = Record::read(&layout.record(NAME)).is_some_and(Record::alive);
    if !runs {
        tools::require(CLIENT).await?;
        let program = tools::versitygw().await?;
        files.prepare(&address)?;
        Launch::new(layout, "outer", "sh")
            .inside(layout, anchor, "outer")
            .restarted()
            .args(["-c".to_owned(), files.script(&program, &address, PORT)])
            .start(layout, &helper()?, NAME)?;
    }
    let store = files.open(&address, PORT)?;
    let ask = Launch::new(layout, "outer", "curl")
        .inside(layout, anchor, "outer")
        .args(store.request("GET", "/health", &[], None));
    let begun = Instant::now();
    loop {
        let printed = process::run(&mut ask.command(&helper()?)).await;
        if printed.is_ok_and(|printed| ObjectStore::answer(&printed).status == 200) {
            return Ok(store);
        }
        if begun.elapsed() > READY_WITHIN {
            return Err(LocalError::Late {
                what: format!("the object store (see {})", layout.log(NAME).display()),
                after: READY_WITHIN,
            }
            .into());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
