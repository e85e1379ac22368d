//! Drills as a cluster has them, whichever engine's: their pods, and what a kubelet says of these. What runs in them a
//! test says itself.

use k8s_openapi::api::core::v1::{
    ConfigMap, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStatus,
    Pod, PodStatus,
};
use kube::ResourceExt;
use mainstay_backup::drill::DrillReport;
use mainstay_backup::ids::BackupId;
use mainstay_shared::names;

use crate::api::FakeApi;
use crate::world::SHOP;

/// Pods of drills.
pub fn pods(api: &FakeApi) -> Vec<Pod> {
    let is_drill = |p: &Pod| p.labels().get(names::COMPONENT).map(String::as_str) == Some("drill");
    api.list::<Pod>().into_iter().filter(is_drill).collect()
}

/// What drills are told.
pub fn maps(api: &FakeApi) -> Vec<ConfigMap> {
    let is_drill = |m: &ConfigMap| m.labels().get(names::PART).map(String::as_str) == Some("drill");
    let all = api.list::<ConfigMap>().into_iter();
    all.filter(is_drill).collect()
}

/// Whether there is the pod of a drill, and it was written down that it was made.
pub fn is_begun(api: &FakeApi) -> bool {
    let mut maps = maps(api).into_iter();
    let noted = maps.any(|m| m.annotations().contains_key(names::DRILL_BEGUN));
    noted && !pods(api).is_empty()
}

/// What the kubelet says of a pod.
pub fn say(api: &FakeApi, pod: &Pod, change: impl FnOnce(&mut PodStatus)) {
    assert!(api.edit::<Pod>(SHOP, &pod.name_any(), |pod| {
        change(pod.status.get_or_insert_default());
    }));
}

/// A container in such a state.
pub fn container(name: &str, state: ContainerState) -> ContainerStatus {
    ContainerStatus {
        name: name.to_owned(),
        state: Some(state),
        ..ContainerStatus::default()
    }
}

/// It runs.
pub fn running() -> ContainerState {
    ContainerState {
        running: Some(ContainerStateRunning::default()),
        ..ContainerState::default()
    }
}

/// It has ended with this code and these last words.
pub fn ended(code: i32, words: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: code,
            message: Some(words.to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

/// It was restored, and this is what was found.
pub fn tell(api: &FakeApi, pod: &Pod, report: &DrillReport) {
    let words = serde_json::to_string(report).unwrap();
    say(api, pod, |status| {
        let (phase, code) = if report.passed {
            ("Succeeded", 0)
        } else {
            ("Failed", 1)
        };
        status.phase = Some(phase.into());
        status.init_container_statuses = Some(vec![container("restore", ended(0, ""))]);
        status.container_statuses = Some(vec![container("drill", ended(code, &words))]);
    });
}

/// What is said of a drill that passed: the newest commit half a minute old, restored within fifteen seconds.
pub fn good() -> DrillReport {
    let now = jiff::Timestamp::now();
    let ago = |seconds| Some(now - jiff::SignedDuration::from_secs(seconds));
    DrillReport {
        passed: true,
        message: "the backup is restored and everything holds".into(),
        backup: Some(BackupId::new(now, [7; 8])),
        bytes: 4 << 30,
        key: Some("age1x".into()),
        position: Some("0/3000148".into()),
        history: Some("1".into()),
        last_commit: ago(30),
        begun: ago(20),
        answered: ago(5),
        ended: Some(now),
        checks: 4,
        ..DrillReport::default()
    }
}
