use super::*;
use crate::settings::PostgresSettings;

fn config(parameters: &[(&str, &str)]) -> PostgresConfig {
    PostgresConfig {
        set: "db".into(),
        namespace: "shop".into(),
        members: vec!["db-1".into(), "db-2".into(), "db-3".into()],
        durability: Durability::Quorum,
        engine: PostgresSettings {
            major: 17,
            parameters: parameters
                .iter()
                .map(|(k, v)| ((*k).into(), (*v).into()))
                .collect(),
            database: "app".into(),
            owner: "app".into(),
            max_slot_wal_keep_mib: 512,
            host_rules: vec![],
        },
    }
}

fn facts() -> Facts {
    Facts {
        instance: "db-2".into(),
        user: "postgres".into(),
        listen: "*".into(),
        run: "/mainstay/run".into(),
        tls: "/mainstay/run/tls".into(),
        sockets: "/var/run/postgresql".into(),
        primary: Some(("db-1".into(), "10.0.0.1".into())),
        synchronous: true,
        floors: BTreeMap::new(),
    }
}

#[test]
fn a_replica_keeps_what_its_data_needs() {
    let floors: BTreeMap<String, u64> = [
        ("max_connections".to_owned(), 100),
        ("max_wal_senders".to_owned(), 20),
    ]
    .into();
    let facts = Facts { floors, ..facts() };
    let text = render(
        &config(&[("max_connections", "50"), ("max_wal_senders", "30")]),
        &facts,
    )
    .settings;
    assert_eq!(line(&text, "max_connections"), "max_connections = '100'");
    assert_eq!(line(&text, "max_wal_senders"), "max_wal_senders = '30'");
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let start = format!("{name} = ");
    let mut found = text.lines().filter(|l| l.starts_with(&start));
    let line = found.next().unwrap();
    assert_eq!(found.next(), None, "{name} stands once");
    line
}

#[test]
fn the_user_changes_defaults_and_not_what_is_managed() {
    let config = config(&[
        ("Port", "1"),
        ("max_wal_senders", "3"),
        ("work_mem", "4MB"),
        ("my.x", "it's\n\\"),
    ]);
    let text = render(&config, &facts()).settings;
    assert_eq!(line(&text, "port"), "port = '5432'");
    assert_eq!(line(&text, "max_wal_senders"), "max_wal_senders = '3'");
    assert_eq!(line(&text, "work_mem"), "work_mem = '4MB'");
    assert_eq!(line(&text, "my.x"), "my.x = 'it''s \\\\'");
}

#[test]
fn commits_wait_for_the_other_members_only_when_switched_on() {
    let on = render(&config(&[]), &facts()).settings;
    let expected = "synchronous_standby_names = 'ANY 1 (\"db-1\",\"db-3\")'";
    assert_eq!(line(&on, "synchronous_standby_names"), expected);
    let off = render(
        &config(&[]),
        &Facts {
            synchronous: false,
            ..facts()
        },
    )
    .settings;
    assert_eq!(
        line(&off, "synchronous_standby_names"),
        "synchronous_standby_names = ''"
    );
}

#[test]
fn waiting_for_replicas_begins_with_the_first_that_streams_and_stays() {
    use Durability::{Async, Quorum};
    assert!(!synchronous(Quorum, false, false));
    assert!(synchronous(Quorum, false, true));
    assert!(synchronous(Quorum, true, false));
    assert!(!synchronous(Async, true, true));
}

#[test]
fn the_primary_is_verified_by_its_name_at_its_address() {
    let text = render(&config(&[]), &facts()).settings;
    let line = line(&text, "primary_conninfo");
    for part in [
        "host=''db-1.db-peers.shop.svc''",
        "hostaddr=''10.0.0.1''",
        "sslmode=''verify-full''",
        "application_name=''db-2''",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn nobody_comes_in_without_tls_and_our_roles_only_by_certificate() {
    let text = render(&config(&[]), &facts()).access;
    let rules: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    for rule in &rules {
        assert!(
            rule.starts_with("local") || rule.starts_with("hostssl") || rule.ends_with("reject"),
            "{rule}"
        );
        assert!(!rule.contains("trust"));
    }
    let reject = rules.iter().position(|r| r.ends_with("reject")).unwrap();
    assert_eq!(
        rules.last().unwrap().split_whitespace().last(),
        Some("scram-sha-256")
    );
    assert!(
        reject < rules.len() - 1,
        "our roles are refused before passwords are asked"
    );
}

#[test]
fn slots_have_names_that_postgresql_takes() {
    assert_eq!(slot("my-db-12"), "my_db_12");
}
