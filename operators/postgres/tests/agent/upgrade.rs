//! Another program for an agent.

use std::path::Path;

use mainstay_shared::agent::api::Status;
use mainstay_shared::agent::client::ClientError;
use mainstay_shared::agent::program::{Own, sha256_of};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::one_instance;
use super::pod::{PROGRAM, Pod, Set};

#[tokio::test]
async fn another_agent_takes_over_beside_the_engine_and_one_that_does_not_work_is_given_up() {
    let (set, one, _) = one_instance().await;
    let client = set.connect(&one).await.unwrap();
    let engine = one.engine_pid();
    let status = set
        .until(&one, "known by its program", |s| s.program.is_some())
        .await;
    let own = status.program.unwrap();
    assert_eq!(own, Own::at(Path::new(&*PROGRAM)).unwrap().program);

    // One that ends at once.
    let folder = tempfile::tempdir().unwrap();
    let bad = folder.path().join("ends");
    std::fs::write(&bad, "#!/bin/sh\nexit 7\n").unwrap();
    let sha256 = sha256_of(&bad).unwrap();
    let mut agent = set.agent(&one);
    let wrong = agent.upgrade("another", &bad, &sha256, "test").await;
    assert!(
        matches!(wrong, Err(ClientError::Refused(code, _)) if code == 409),
        "{wrong:?}"
    );
    let back = given_up(&set, &one, &status.nonce, &bad).await;
    assert!(back.given_up.unwrap().why.contains("exit code 7"));

    // One that works, and differs in what no program minds.
    let next = folder.path().join("next");
    let mut bytes = std::fs::read(&*PROGRAM).unwrap();
    bytes.extend(b"next");
    std::fs::write(&next, bytes).unwrap();
    let sha256 = sha256_of(&next).unwrap();
    let mut agent = set.agent(&one);
    let wrong = agent.upgrade(&back.nonce, &next, &own.sha256, "test").await;
    assert!(
        matches!(wrong, Err(ClientError::Refused(code, _)) if code == 400),
        "{wrong:?}"
    );
    agent
        .upgrade(&back.nonce, &next, &sha256, "test")
        .await
        .unwrap();
    let after = set
        .until(&one, "upgraded", |s| {
            s.ready && s.program.as_ref().is_some_and(|p| p.sha256 == sha256)
        })
        .await;
    assert_eq!(after.given_up, None);

    // While it is new, its end is a reason to go back.
    kill(Pid::from_raw(one.agent_pid()), Signal::SIGKILL).unwrap();
    let back = set
        .until(&one, "back", |s| s.ready && s.given_up.is_some())
        .await;
    assert_eq!(back.given_up.as_ref().unwrap().sha256, sha256);

    // Through all of that the engine was the same, and so was the connection.
    assert_eq!(one.engine_pid(), engine);
    client.query_one("select 1", &[]).await.unwrap();

    // One that says nothing. A primary's term may end before that is noticed.
    let hangs = folder.path().join("hangs");
    std::fs::write(&hangs, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    let back = given_up(&set, &one, &back.nonce, &hangs).await;
    assert!(back.given_up.unwrap().why.contains("did not say within"));
    set.finish(one);
}

/// Have an agent go on as a program that does not work, and see it come back.
async fn given_up(set: &Set, pod: &Pod, nonce: &str, program: &Path) -> Status {
    let sha256 = sha256_of(program).unwrap();
    let mut agent = set.agent(pod);
    agent
        .upgrade(nonce, program, &sha256, "test")
        .await
        .unwrap();
    set.until(pod, "back", |s| {
        let given_up = s.given_up.as_ref();
        s.ready && s.nonce != nonce && given_up.is_some_and(|g| g.sha256 == sha256)
    })
    .await
}
