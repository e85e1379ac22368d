//! The newer servers: what matters most of what is tried with Redis 7.0.

use mainstay_crds::redis::parameters::{KNOWN, Kind, LACKING};
use mainstay_e2e::tools::Server;
use mainstay_redis::resp::words;

use super::pod::Set;
use super::{backup, faults, logins, replicas_follow_and_one_takes_over};

#[tokio::test]
async fn redis_8_follows_and_takes_over() {
    replicas_follow_and_one_takes_over(Server::Redis8).await;
}

#[tokio::test]
async fn redis_8_keeps_what_one_replica_acknowledged() {
    faults::what_one_replica_acknowledged_survives(Server::Redis8).await;
}

#[tokio::test]
async fn redis_8_is_made_again_from_a_backup() {
    backup::what_a_replica_gave_is_another_set(Server::Redis8).await;
}

#[tokio::test]
async fn redis_8_knows_its_logins() {
    logins::a_login_does_what_it_may(Server::Redis8).await;
    logins::every_right_is_known(Server::Redis8).await;
}

#[tokio::test]
async fn valkey_8_follows_and_takes_over() {
    replicas_follow_and_one_takes_over(Server::Valkey8).await;
}

#[tokio::test]
async fn valkey_8_keeps_what_one_replica_acknowledged() {
    faults::what_one_replica_acknowledged_survives(Server::Valkey8).await;
}

#[tokio::test]
async fn valkey_8_is_made_again_from_a_backup() {
    backup::what_a_replica_gave_is_another_set(Server::Valkey8).await;
}

#[tokio::test]
async fn valkey_8_knows_its_logins() {
    logins::a_login_does_what_it_may(Server::Valkey8).await;
    logins::every_right_is_known(Server::Valkey8).await;
}

/// Every parameter that a resource may have, at once, with a value that is not the server's own where there is one.
#[tokio::test]
async fn every_server_starts_with_every_parameter_that_it_may_be_given() {
    for server in [Server::Redis7, Server::Redis8, Server::Valkey8] {
        let mut set = Set::of(server, 1).await;
        let engine = match server {
            Server::Redis7 | Server::Redis8 => "Redis",
            Server::Valkey8 => "Valkey",
        };
        let lacks = |name: &str| {
            let mut of = LACKING.iter();
            of.any(|l| {
                (l.engine, l.version) == (engine, server.version()) && l.names.contains(&name)
            })
        };
        let mut asked = Vec::new();
        for known in KNOWN.iter().filter(|k| k.name != "save" && !lacks(k.name)) {
            let value = match known.kind {
                Kind::Bool => "no".to_owned(),
                Kind::Integer { min, max } => (min + 7).min(max).to_string(),
                Kind::Bytes { min, .. } => (min + (2 << 20)).to_string(),
                Kind::Words(words) => words[0].to_owned(),
                Kind::Events => "KEA".to_owned(),
                Kind::Snapshots => "3600 1".to_owned(),
            };
            asked.push(known.name);
            let parameters = &mut set.config.engine.parameters;
            parameters.insert(known.name.to_owned(), value);
        }
        // What would need more processors, or files, than the test has.
        for (name, value) in [("io-threads", "1"), ("maxclients", "100")] {
            let parameters = &mut set.config.engine.parameters;
            parameters.insert(name.to_owned(), value.to_owned());
        }
        let pods = set.all(1).await;
        let status = set.until(&pods[0], "ready", |s| s.ready).await;
        assert_eq!(status.pending_restart, Vec::<String>::new(), "{server:?}");
        let version = status.engine_version.unwrap();
        assert!(version.starts_with(server.version()), "{version}");
        let mut db = set.connect(&pods[0]).await.unwrap();
        db.call(words(["SET", "a", "1"])).await.unwrap();
        assert!(asked.len() > 40, "{asked:?}");
        set.finish(pods);
    }
}
