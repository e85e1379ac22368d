//! What says nothing of backups.

use serde_json::json;

use super::super::pod::seen;
use super::*;

#[test]
fn what_says_nothing_of_backups_is_skipped_and_proves_nothing() {
    let stopped = DrillReport {
        message: "the drill was told to stop".into(),
        ..DrillReport::default()
    };
    let mut evicted = told(&stopped);
    evicted.reason = Some(("Evicted".into(), "the node was low on memory".into()));
    let mut drained = PodSeen {
        deleting: true,
        started: true,
        ..PodSeen::default()
    };
    // Told to stop it has ended, and Kubernetes says no more than that.
    let mut ended_by_drain = told(&stopped);
    ended_by_drain.deleting = true;
    let disrupted: k8s_openapi::api::core::v1::Pod = serde_json::from_value(json!({"status": {
        "phase": "Failed",
        "conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "Eviction API",
        }],
        "containerStatuses": [{
            "name": "drill", "ready": false, "restartCount": 0, "image": "i", "imageID": "i",
            "state": {"terminated": {"exitCode": 1, "message": serde_json::to_string(&stopped).unwrap()}},
        }],
    }}))
    .unwrap();
    let disrupted = seen(&disrupted);
    let mut rebooted = pod(Phase::Failed, &[("drill", Ended::default())]);
    rebooted.ended.get_mut("drill").unwrap().reason = Some("Unknown".into());
    for (pod, why) in [
        (evicted, "low on memory"),
        (drained.clone(), "drained"),
        (ended_by_drain, "drained"),
        (disrupted, "Eviction"),
        (rebooted, "node is lost"),
    ] {
        let over = World::new().going(Some(pod)).recorded();
        assert_eq!(over.result, DrillResult::Skipped);
        assert!(over.message.contains(why), "{}", over.message);
    }
    // What has passed has passed, whatever becomes of the pod.
    drained = told(&passed());
    drained.deleting = true;
    assert_eq!(
        World::new().going(Some(drained)).recorded().result,
        DrillResult::Passed
    );

    let mut world = World::new().going(None);
    assert!(matches!(world.decide(), Decision::Look(_)));
    let lost = gone(&world.begun[0], noon());
    assert_eq!(lost.result, DrillResult::Skipped);
    record(&mut world.recovery, lost);
    assert!(matches!(world.decide(), Decision::Remove(_)));
    let (state, _, message) = world.condition();
    assert_eq!(state, State::Unknown);
    assert!(message.contains("was skipped"), "{message}");
    world.begun.clear();
    assert_eq!(world.decide(), Decision::Rest, "until it is due again");
}

#[test]
fn who_finds_no_room_is_given_up_after_a_while() {
    let waiting = PodSeen {
        waiting: Some("0/3 nodes are available: 3 Insufficient memory.".into()),
        scheduled: Some(noon()),
        ..PodSeen::default()
    };
    let mut world = World::new().going(Some(waiting));
    assert!(world.waits().contains("Insufficient memory"));
    assert_eq!(world.look(due), Some(noon() + PATIENCE));
    world.now = noon() + PATIENCE;
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert_eq!(
        over.message,
        "no room: 0/3 nodes are available: 3 Insufficient memory."
    );
    // Images may take as long again once it has a node.
    world.begun[0].pod.as_mut().unwrap().scheduled = Some(noon() + 9.minutes());
    assert!(world.waits().contains("has not begun"));
    let pod = world.begun[0].pod.as_mut().unwrap();
    pod.placed = true;
    pod.waiting = Some("container install: Back-off pulling image".into());
    world.now += 10.minutes();
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert!(
        over.message
            .contains("not started within 10 minutes: container install"),
        "{}",
        over.message
    );
}

#[test]
fn who_is_never_heard_of_again_is_given_up() {
    let silent = PodSeen {
        started: true,
        placed: true,
        ..PodSeen::default()
    };
    let mut world = World::new().going(Some(silent));
    let until = noon() + SignedDuration::from_secs(14_400) + PATIENCE;
    assert_eq!(world.look(due), Some(until));
    world.now = until;
    let over = world.recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert!(
        over.message.contains("nothing is heard"),
        "{}",
        over.message
    );

    // Its node ended it, and it had not even begun.
    let mut late = PodSeen {
        phase: Phase::Failed,
        placed: true,
        reason: Some(("DeadlineExceeded".into(), "Pod was active".into())),
        waiting: Some("container restore: Back-off pulling image".into()),
        ..PodSeen::default()
    };
    let over = World::new().going(Some(late.clone())).recorded();
    assert_eq!(over.result, DrillResult::Skipped);
    assert!(over.message.contains("pulling image"), "{}", over.message);
    late.started = true;
    assert_eq!(
        World::new().going(Some(late)).recorded().result,
        DrillResult::Failed
    );
}
