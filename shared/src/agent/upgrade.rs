//! Another program of the agent, beside the running engine. I/O.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::sleep;

use super::api::{GivenUp, Program, Upgrade};
use super::init::client::InitClient;
use super::init::protocol::Command;
use super::program::{Own, sha256_in};
use super::server::{Answer, Refusal};

/// By then the answer has left.
const FAREWELL: Duration = Duration::from_millis(200);

/// What this process runs. Reading it takes a moment.
pub async fn identify() -> Option<Program> {
    match tokio::task::spawn_blocking(Own::find).await {
        Ok(Ok(own)) => Some(own.program),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the agent's own program cannot be read: it is not upgraded in place");
            None
        }
        Err(_) => None,
    }
}

/// The program that PID 1 gave up last.
pub fn given_up(init: &InitClient) -> Option<GivenUp> {
    let given_up = init.heard().borrow().state.given_up.clone()?;
    Some(GivenUp {
        sha256: sha256_in(&given_up.program)?.to_owned(),
        why: given_up.why,
    })
}

/// Another program takes this one's place, unless there is a refusal.
pub fn make_room(
    init: &InitClient,
    wish: &Upgrade,
    program: PathBuf,
    answer: Answer,
    refusal: Option<Refusal>,
) {
    if let Some(refusal) = refusal {
        let _ = answer.send(Err(refusal));
        return;
    }
    tracing::info!(
        program = wish.sha256,
        reason = wish.reason,
        "another agent takes over"
    );
    let _ = answer.send(Ok(()));
    let init = init.clone();
    tokio::spawn(async move {
        sleep(FAREWELL).await;
        let program = program.display().to_string();
        // A lost connection ends this process elsewhere.
        let _ = init.send(Command::TryOut { program }).await;
    });
}
