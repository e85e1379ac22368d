//! Drills: what is told and made.

use mainstay_shared::backups::drill::{Drill, Start};

use super::*;
use crate::backup::settings::{
    DRILL_FILE, DrillSettings, PlaceSpec, RESTORE_FILE, RestoreSettings, Target,
};
use crate::desired::drill;

/// A set whose backups are tried.
fn drilled() -> Validated {
    let mut v = backed_up();
    let backup = v.backup.as_mut().unwrap();
    backup.drill = Some(crate::validate::backup::Drill {
        common: mainstay_shared::operator::validated::Drills {
            cron: mainstay_shared::backups::cron::Cron::weekly("x"),
            target: mainstay_crds::common::backup::DrillTarget::Random,
            cpu_milli: None,
            memory: Some(1 << 30),
            keep: false,
            seconds: 14_400,
        },
        checks: vec![crate::backup::settings::DrillCheck {
            sql: "select count(*) > 0 from orders".into(),
            expect: None,
        }],
    });
    v.common.backup = Some(backup.common());
    v
}

fn start() -> Start {
    Start {
        name: "db-drill-202603010330".into(),
        due: "2026-03-01T03:30:00Z".parse().unwrap(),
        moment: Some("2026-02-27T10:20:30.5Z".parse().unwrap()),
    }
}

fn pod_of_drill(v: &Validated) -> Value {
    let Start { name, due, moment } = start();
    let going = Drill {
        name,
        due,
        moment,
        told: true,
        ..Drill::default()
    };
    let backup = v.backup.as_ref().unwrap();
    let wanted = backup.drill.as_ref().unwrap();
    let image = "mainstay/postgres-operator:0.1.0";
    let pod = drill::pod(v, backup, wanted, &going, image);
    Object::of(&pod).unwrap().value
}

#[test]
fn the_pod_as_it_is_written() {
    let pod = pod_of_drill(&drilled());
    assert_eq!(unrestricted(&pod), Vec::<String>::new());
    insta::assert_json_snapshot!("pod-of-a-drill", pod);
}

#[test]
fn what_opens_the_repository_is_where_no_statement_runs() {
    let pod = pod_of_drill(&drilled());
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let secret: Vec<&str> = volumes
        .iter()
        .filter(|v| v["secret"].is_object() || v["projected"].is_object())
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    assert_eq!(secret, ["restore-secrets"]);
    let mounts = |container: &Value| -> Vec<String> {
        let all = container["volumeMounts"].as_array().unwrap().iter();
        all.map(|m| m["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let first = &pod["spec"]["initContainers"];
    assert!(mounts(&first[1]).contains(&"restore-secrets".to_owned()));
    let looks = &pod["spec"]["containers"][0];
    assert_eq!(looks["name"], "drill");
    assert!(!mounts(looks).contains(&"restore-secrets".to_owned()));
    assert!(mounts(looks).contains(&"backup-run".to_owned()));
    assert_eq!(pod["spec"]["automountServiceAccountToken"], false);
    assert!(pod["spec"]["serviceAccountName"].is_null());
}

#[test]
fn a_repository_on_a_volume_is_read_where_no_statement_runs() {
    let mut v = drilled();
    let access = &mut v.backup.as_mut().unwrap().access;
    (access.claim, access.credentials) = (Some("backups".into()), None);
    let pod = pod_of_drill(&v);
    let claim = ("repository".to_owned(), "backups".to_owned());
    assert_eq!(claims(&pod), [claim], "its own data goes with the pod");
    let folder = crate::backup::settings::RESTORE_REPOSITORY;
    let mount = (format!("{folder}/backups"), true);
    let restore = &pod["spec"]["initContainers"][1];
    assert_eq!(mounted(restore, "repository"), Some(mount));
    assert_eq!(mounted(&pod["spec"]["containers"][0], "repository"), None);
}

#[test]
fn nothing_of_the_set_means_the_pod() {
    let v = drilled();
    let pod = pod_of_drill(&v);
    let labels = pod["metadata"]["labels"].as_object().unwrap();
    let meant = |selector: &Value| {
        let wanted = selector.as_object().unwrap();
        wanted
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    };
    let mut policies = 0;
    for object in all(&v) {
        let spec = &object.value["spec"];
        match object.resource.kind.as_str() {
            "Service" if !spec["selector"].is_null() => {
                assert!(!meant(&spec["selector"]), "{}", object.key());
            }
            "PodDisruptionBudget" => {
                assert!(!meant(&spec["selector"]["matchLabels"]), "{}", object.key());
            }
            "NetworkPolicy" => {
                let own = object.key().name == "db.drill";
                assert_eq!(
                    meant(&spec["podSelector"]["matchLabels"]),
                    own,
                    "{}",
                    object.key()
                );
                policies += usize::from(own);
            }
            "Pod" => {
                let spread = &spec["topologySpreadConstraints"][0]["labelSelector"];
                assert!(!meant(&spread["matchLabels"]), "{}", object.key());
            }
            _ => {}
        }
    }
    assert_eq!(policies, 1, "it has its own");
    assert!(names::ordinal("db", pod["metadata"]["name"].as_str().unwrap()).is_none());
}

#[test]
fn what_a_drill_is_told_is_read_back_and_has_no_secret() {
    let v = drilled();
    let backup = v.backup.as_ref().unwrap();
    let wanted = backup.drill.as_ref().unwrap();
    let map = drill::config_map(&v, backup, wanted, &start()).unwrap();
    let data = map.data.unwrap();
    let restore: RestoreSettings = serde_json::from_str(&data[RESTORE_FILE]).unwrap();
    assert_eq!(restore.target, Target::Time(start().moment.unwrap()));
    assert_eq!(restore.repository.prefix, "shop/db", "the set's own");
    assert!(
        matches!(&restore.repository.place, PlaceSpec::S3 { bucket, .. } if bucket == "backups")
    );
    assert!(restore.repository.encryption.is_some());
    assert_eq!(restore.major, 17);
    let told: DrillSettings = serde_json::from_str(&data[DRILL_FILE]).unwrap();
    assert_eq!(told.checks, wanted.checks);
    assert_eq!((told.database.as_str(), told.role.as_str()), ("app", "app"));
    assert_eq!(told.statement_seconds, 1800);
    let notes = map.metadata.annotations.unwrap();
    assert_eq!(notes[names::DRILL_MOMENT], "2026-02-27T10:20:30.5Z");
    assert_eq!(notes[names::DRILL_DUE], "2026-03-01T03:30:00Z");
    // Pruning passes it over: it goes by its own rule.
    assert_eq!(map.metadata.labels.unwrap()[names::PART], names::DRILL);
}
