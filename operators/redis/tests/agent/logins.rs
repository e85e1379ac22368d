//! Logins of applications besides the set's own, with a real Redis.

use mainstay_crds::access::{CATEGORIES, RedisGrants};
use mainstay_e2e::tools::Server;
use mainstay_redis::agent::render::check;
use mainstay_redis::desired::login::rules;
use mainstay_redis::resp::{RespError, Words, words};
use mainstay_redis::settings::RULES;
use mainstay_shared::agent::config::{Role, users_hash};

use super::pod::{Db, Pod, Set};
use super::wait_for;

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|i| (*i).to_owned()).collect()
}

fn grants() -> RedisGrants {
    RedisGrants {
        keys: list(&["orders:*"]),
        read_only_keys: list(&["prices:*"]),
        channels: list(&["orders"]),
        categories: list(&["read", "write", "pubsub"]),
    }
}

fn login(name: &str, passwords: &[&str], grants: &RedisGrants) -> Role {
    let checks: Vec<String> = passwords.iter().map(|p| format!("#{}", check(p))).collect();
    Role {
        name: name.into(),
        verifier: checks.join(" "),
        attributes: [(RULES.to_owned(), rules(grants))].into(),
    }
}

/// The words of a command.
fn all(command: &[&str]) -> Words {
    command.iter().map(|word| (*word).to_owned()).collect()
}

/// Whether a command is refused for want of a right.
async fn is_refused(db: &mut Db, command: &[&str]) -> bool {
    let answer = db.call(all(command)).await;
    matches!(&answer, Err(e) if e.code() == Some("NOPERM"))
}

/// Until the agent says that the users are in force as they are mounted.
async fn known(set: &Set, pod: &Pod) {
    let hash = users_hash(&set.roles());
    assert!(hash.is_some());
    set.mount(pod);
    set.until(pod, "knowing its users", |s| s.users_hash == hash)
        .await;
}

#[tokio::test]
async fn a_login_does_what_it_may_while_it_changes_and_ends_with_its_role() {
    a_login_does_what_it_may(Server::Redis7).await;
}

pub async fn a_login_does_what_it_may(server: Server) {
    let mut set = Set::of(server, 1).await;
    let pods = set.all(1).await;
    let one = &pods[0];
    let mut app = set.connect(one).await.unwrap();
    app.set("prices:1", "7").await.unwrap();
    app.set("other", "1").await.unwrap();
    set.logins = vec![login("orders", &["first"], &grants())];
    known(&set, one).await;
    let mut db = set.connect_as(one, "orders", "first").await.unwrap();
    db.set("orders:1", "1").await.unwrap();
    assert_eq!(db.get("prices:1").await.as_deref(), Some("7"));
    for allowed in [
        &["PUBLISH", "orders", "x"][..],
        &["INFO"],
        &["ROLE"],
        &["WAIT", "0", "0"],
        &["CLIENT", "SETNAME", "it"],
        &["SELECT", "1"],
        &["SELECT", "0"],
        &["HELLO"],
    ] {
        let answer = db.call(all(allowed)).await;
        assert!(answer.is_ok(), "{allowed:?}: {answer:?}");
    }
    // It is told that this is no cluster, and not that it may not ask.
    assert!(!is_refused(&mut db, &["CLUSTER", "SLOTS"]).await);
    for refused in [
        &["CLUSTER", "RESET"][..],
        &["SET", "prices:1", "8"],
        &["SET", "other", "2"],
        &["GET", "other"],
        &["PUBLISH", "other", "x"],
        &["SUBSCRIBE", "other"],
        &["EVAL", "return 1", "0"],
        &["CONFIG", "GET", "*"],
        &["ACL", "LIST"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["FLUSHALL"],
        &["FLUSHDB"],
        &["KEYS", "*"],
        &["FUNCTION", "FLUSH"],
        &["REPLICAOF", "NO", "ONE"],
        &["SHUTDOWN"],
        &["MONITOR"],
    ] {
        assert!(is_refused(&mut db, refused).await, "{refused:?}");
    }

    // It gets more rights and another password; who is logged in, writes and listens, notices nothing.
    let mut listener = set.connect_as(one, "orders", "first").await.unwrap();
    listener.call(words(["SUBSCRIBE", "orders"])).await.unwrap();
    let more = RedisGrants {
        keys: list(&["orders:*", "carts:*"]),
        ..grants()
    };
    set.logins = vec![login("orders", &["second", "first"], &more)];
    {
        let changed = known(&set, one);
        let taken = async {
            loop {
                db.set("orders:2", "1").await.expect("writes are taken");
            }
        };
        tokio::select! {
            () = changed => {}
            () = taken => {}
        }
    }
    db.set("carts:1", "1").await.unwrap();
    listener.call(words(["PING"])).await.unwrap();
    for password in ["first", "second"] {
        assert!(set.connect_as(one, "orders", password).await.is_ok());
    }
    set.logins = vec![login("orders", &["second"], &more)];
    known(&set, one).await;
    assert!(set.connect_as(one, "orders", "first").await.is_err());
    assert!(set.connect_as(one, "orders", "second").await.is_ok());
    db.set("orders:3", "1")
        .await
        .expect("who is logged in stays so");

    // Its end is that of its connections, and of no other.
    set.logins.clear();
    known(&set, one).await;
    wait_for("its connection to end", async || {
        matches!(db.set("orders:4", "1").await, Err(RespError::Io(_)))
    })
    .await;
    assert!(set.connect_as(one, "orders", "second").await.is_err());
    app.set("a", "1").await.unwrap();
    set.finish(pods);
}

#[tokio::test]
async fn who_comes_with_the_password_that_every_instance_knows_is_never_refused() {
    let mut set = Set::new(2).await;
    set.logins = vec![login("orders", &["first"], &grants())];
    let pods = set.all(1).await;
    // What is valid at a time, in the order in which an operation changes it, and what stands in the Secret meanwhile.
    let steps: [(&[&str], &str); 5] = [
        (&["first", "second"], "first"),
        (&["second", "first"], "second"),
        (&["second", "third", "first"], "second"),
        (&["third", "second", "first"], "third"),
        (&["third"], "third"),
    ];
    for (valid, stands) in steps {
        set.logins = vec![login("orders", valid, &grants())];
        let changed = async {
            for pod in &pods {
                known(&set, pod).await;
            }
        };
        let mut times = 0;
        let comes = async {
            loop {
                for pod in &pods {
                    let came = set.connect_as(pod, "orders", stands).await;
                    came.expect("whoever comes is let in");
                    times += 1;
                }
            }
        };
        tokio::select! {
            () = changed => {}
            () = comes => {}
        }
        assert!(times > 0);
        // From when each says so, each of them is taken everywhere, and no other.
        for pod in &pods {
            for password in ["first", "second", "third"] {
                let came = set.connect_as(pod, "orders", password).await;
                assert_eq!(came.is_ok(), valid.contains(&password), "{password}");
            }
        }
    }
    set.finish(pods);
}

#[tokio::test]
async fn every_right_that_can_be_asked_for_is_one_that_redis_knows() {
    every_right_is_known(Server::Redis7).await;
}

pub async fn every_right_is_known(server: Server) {
    let mut set = Set::of(server, 1).await;
    let everything = RedisGrants {
        keys: list(&["*", "a*"]),
        read_only_keys: list(&["b*"]),
        channels: list(&["*", "c*"]),
        categories: list(CATEGORIES),
    };
    let odd = RedisGrants {
        keys: list(&["(a", "b)", "~c", "\"d\'", "%R~e", "#f", "orders:[0-9]*"]),
        read_only_keys: list(&["(g)"]),
        channels: list(&["&h"]),
        categories: vec![],
    };
    // From the file that Redis starts with, and while it runs.
    set.logins = vec![login("from-the-start", &["p"], &everything)];
    let pods = set.all(1).await;
    set.logins.push(login("all", &["p"], &everything));
    set.logins.push(login("odd", &["p"], &odd));
    known(&set, &pods[0]).await;
    let odd_keys = ["(a", "b)", "~c", "\"d\'", "%R~e", "#f", "orders:1"];
    for restarts in [false, true] {
        if restarts {
            let nonce = set.until(&pods[0], "ready", |s| s.ready).await.nonce;
            set.agent(&pods[0]).restart(&nonce, "test").await.unwrap();
            set.until(&pods[0], "ready", |s| s.ready).await;
        }
        for user in ["from-the-start", "all"] {
            let mut db = set.connect_as(&pods[0], user, "p").await.unwrap();
            db.set("anything", "1").await.unwrap();
            db.call(words(["EVAL", "return 1", "0"])).await.unwrap();
            assert!(is_refused(&mut db, &["FLUSHALL"]).await);
        }
        let mut db = set.connect_as(&pods[0], "odd", "p").await.unwrap();
        for key in odd_keys {
            db.set(key, "1").await.unwrap();
        }
        assert_eq!(db.get("(g)").await, None);
        assert!(is_refused(&mut db, &["SET", "(g)", "1"]).await);
        assert!(is_refused(&mut db, &["SET", "c", "1"]).await);
    }
    set.finish(pods);
}
