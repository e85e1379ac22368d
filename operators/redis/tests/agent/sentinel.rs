//! Clients of a Sentinel find the primary and follow it, with real Redis.

use std::time::{Duration, Instant};

use futures::StreamExt;
use mainstay_redis::agent::render::check;
use mainstay_redis::resp::{RespError, Value, words};
use mainstay_redis::settings::{PROBE_ROLE, RULES, SENTINEL_PORT};
use mainstay_shared::agent::config::Role;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{ConnectionAddr, ProtocolVersion, TlsCertificates, TlsMode};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::names::{asking, names};
use super::pod::{Db, LONG, Pod, Set};
use super::{wait_closely, wait_for};

/// A set whose agents answer.
pub async fn answering(instances: u32) -> Set {
    let mut set = Set::new(instances).await;
    set.config.engine.sentinel = true;
    set
}

/// The client of crate `redis`, which finds servers of a kind by the Service.
fn client(set: &Set, kind: SentinelServerType) -> SentinelClient {
    let certificates = || TlsCertificates {
        client_tls: None,
        root_cert: Some(set.ca().as_bytes().to_vec()),
    };
    let service = ConnectionAddr::TcpTls {
        host: set.sentinel_host(),
        port: SENTINEL_PORT,
        insecure: false,
        tls_params: None,
    };
    SentinelClientBuilder::new(vec![service], set.name.clone(), kind)
        .unwrap()
        .set_client_to_sentinel_tls_mode(TlsMode::Secure)
        .set_client_to_sentinel_certificates(certificates())
        .set_client_to_sentinel_username("app")
        .set_client_to_sentinel_password(&set.password)
        .set_client_to_sentinel_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_tls_mode(TlsMode::Secure)
        .set_client_to_redis_certificates(certificates())
        .set_client_to_redis_username("app")
        .set_client_to_redis_password(&set.password)
        .build()
        .unwrap()
}

/// Write a key as the application, wherever that client says; once it is let.
async fn write(mut client: SentinelClient, value: &'static str) {
    let begun = Instant::now();
    loop {
        let written = async {
            let mut db = client.get_async_connection().await?;
            redis::cmd("SET")
                .arg("a")
                .arg(value)
                .query_async::<()>(&mut db)
                .await
        };
        match written.await {
            Ok(()) => return,
            Err(error) if begun.elapsed() > LONG => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn read(mut client: SentinelClient) -> Option<String> {
    let mut db = client.get_async_connection().await.unwrap();
    redis::cmd("GET")
        .arg("a")
        .query_async(&mut db)
        .await
        .unwrap()
}

/// The endpoint of an instance, as the application.
pub async fn sentinel(set: &Set, pod: &Pod) -> Db {
    let mut client = set.dial(pod, SENTINEL_PORT).await.unwrap();
    client
        .call(words(["AUTH", "app", &set.password]))
        .await
        .unwrap();
    client
}

/// Which host it says is the primary.
pub async fn primary(client: &mut Db, name: &str) -> Option<String> {
    let said = client
        .call(words(["SENTINEL", "get-master-addr-by-name", name]))
        .await
        .unwrap();
    said.items().first().and_then(Value::text)
}

pub async fn hand_over(set: &Set, from: &Pod, to: &Pod) {
    let nonce = set.until(from, "ready", |s| s.ready).await.nonce;
    let mut agent = set.agent(from);
    agent.hand_over(&nonce, &to.name, "test").await.unwrap();
}

#[tokio::test]
async fn a_client_finds_the_primary_and_hears_where_it_goes() {
    let set = answering(3).await;
    let pods = set.all(1).await;
    let hosts: Vec<String> = pods.iter().map(|p| set.host(p)).collect();
    // Every agent tells the same, whatever its engine is.
    for pod in &pods {
        let mut client = sentinel(&set, pod).await;
        wait_for("the primary to be known", async || {
            primary(&mut client, &set.name).await.as_ref() == Some(&hosts[0])
        })
        .await;
        let others = client
            .call(words(["SENTINEL", "sentinels", &set.name]))
            .await
            .unwrap();
        assert_eq!(others.items().len(), 2);
        wait_for("both replicas to be known", async || {
            let said = client
                .call(words(["SENTINEL", "replicas", &set.name]))
                .await;
            said.unwrap().items().len() == 2
        })
        .await;
    }
    let names = names(&set, &pods);
    let master = client(&set, SentinelServerType::Master);
    asking(names.clone(), move || write(master, "1")).await;
    let mut db = set.connect(&pods[0]).await.unwrap();
    assert_eq!(db.get("a").await.as_deref(), Some("1"));
    assert_eq!(db.wait(2).await, 2);
    let replica = client(&set, SentinelServerType::Replica);
    let read = asking(names.clone(), move || read(replica)).await;
    assert_eq!(read.as_deref(), Some("1"));

    // Who listens is told once, by each agent, when the next one lets clients in.
    let mut listeners = Vec::new();
    for pod in &pods {
        let url = redis::Client::build_with_tls(
            endpoint(&set, pod),
            TlsCertificates {
                client_tls: None,
                root_cert: Some(set.ca().as_bytes().to_vec()),
            },
        );
        let client = url.unwrap();
        let (tell, heard) = mpsc::unbounded_channel();
        let (begun, begins) = oneshot::channel();
        let listens = asking(names.clone(), move || async move {
            let mut listens = client.get_async_pubsub().await.unwrap();
            listens.psubscribe("+s*").await.unwrap();
            let _ = begun.send(());
            let mut messages = listens.into_on_message();
            let switched = async {
                while let Some(message) = messages.next().await {
                    let text: String = message.get_payload().unwrap();
                    let switched = message.get_channel_name() == "+switch-master";
                    let _ = tell.send((message.get_channel_name().to_owned(), text));
                    if switched {
                        return;
                    }
                }
            };
            timeout(LONG, switched).await.unwrap();
        });
        let listens = tokio::spawn(listens);
        begins.await.unwrap();
        listeners.push((listens, heard));
    }
    hand_over(&set, &pods[0], &pods[1]).await;
    let switch = format!("{} {} 6379 {} 6379", set.name, hosts[0], hosts[1]);
    for (n, (listens, mut heard)) in listeners.into_iter().enumerate() {
        listens.await.unwrap();
        let mut all = Vec::new();
        while let Ok(one) = heard.try_recv() {
            all.push(one);
        }
        let last = ("+switch-master".to_owned(), switch.clone());
        assert_eq!(all.last(), Some(&last), "{}: {all:?}", pods[n].name);
        let mut client = sentinel(&set, &pods[n]).await;
        let now = primary(&mut client, &set.name).await;
        assert_eq!(now.as_ref(), Some(&hosts[1]), "{}", pods[n].name);
    }
    let master = client(&set, SentinelServerType::Master);
    asking(names, move || write(master, "2")).await;
    let mut db = set.connect(&pods[1]).await.unwrap();
    assert_eq!(db.get("a").await.as_deref(), Some("2"));
    set.finish(pods);
}

/// The endpoint of one instance, as crate `redis` wants it.
fn endpoint(set: &Set, pod: &Pod) -> redis::ConnectionInfo {
    let url = format!(
        "rediss://app:{}@{}:{SENTINEL_PORT}",
        set.password,
        set.host(pod)
    );
    redis::IntoConnectionInfo::into_connection_info(url).unwrap()
}

#[tokio::test]
async fn a_primary_that_is_lost_is_not_told_any_more_and_nobody_is_until_the_next_one_lets_clients_in()
 {
    let set = answering(3).await;
    let mut pods = set.all(1).await;
    let hosts: Vec<String> = pods.iter().map(|p| set.host(p)).collect();
    let mut clients = Vec::new();
    for pod in &pods[1..] {
        let mut client = sentinel(&set, pod).await;
        wait_for("the primary to be known", async || {
            primary(&mut client, &set.name).await.as_ref() == Some(&hosts[0])
        })
        .await;
        clients.push(client);
    }
    let names = names(&set, &pods);
    let master = client(&set, SentinelServerType::Master);
    asking(names.clone(), move || write(master, "1")).await;
    pods[0].cut();
    // What each has told, one after the other.
    let mut told = vec![vec![Some(hosts[0].clone())]; 2];
    wait_closely("another primary to be told by both", async || {
        for (client, told) in clients.iter_mut().zip(&mut told) {
            let now = primary(client, &set.name).await;
            if told.last() != Some(&now) {
                told.push(now);
            }
        }
        told.iter()
            .all(|t| t.len() > 1 && t.last().is_some_and(Option::is_some))
    })
    .await;
    let next = told[0].last().cloned().flatten().unwrap();
    assert!(hosts[1..].contains(&next), "{next}");
    for told in &told {
        assert_eq!(told, &[Some(hosts[0].clone()), None, Some(next.clone())]);
    }
    // It is there at once for whoever is led so.
    let leader = 1 + usize::from(next == hosts[2]);
    let mut db = set.connect(&pods[leader]).await.unwrap();
    db.set("b", "1").await.unwrap();
    let master = client(&set, SentinelServerType::Master);
    asking(names, move || write(master, "2")).await;
    assert_eq!(db.get("a").await.as_deref(), Some("2"));
    set.finish(pods);
}

fn refused(answer: Result<Value, RespError>) -> Option<String> {
    answer.err()?.code().map(str::to_owned)
}

#[tokio::test]
async fn it_is_there_while_it_is_asked_for_and_for_applications_alone() {
    let mut set = Set::new(1).await;
    let pods = set.all(1).await;
    let one = &pods[0];
    assert!(set.dial(one, SENTINEL_PORT).await.is_err(), "it is off");
    let engine = one.engine_pid();
    set.config.engine.sentinel = true;
    let login = |name: &str, password: &str| Role {
        name: name.into(),
        verifier: format!("#{}", check(password)),
        attributes: [(RULES.to_owned(), "~orders:* +@read".to_owned())].into(),
    };
    set.logins = vec![login("orders", "own")];
    let hash = set.mount(one);
    set.agent(one).reload(&hash).await.unwrap();
    wait_for("the port to be there", async || {
        set.dial(one, SENTINEL_PORT).await.is_ok()
    })
    .await;
    assert_eq!(one.engine_pid(), engine, "the engine notices nothing");

    let ask = words(["SENTINEL", "get-master-addr-by-name", &set.name]);
    let mut stranger = set.dial(one, SENTINEL_PORT).await.unwrap();
    stranger.call(words(["PING"])).await.unwrap();
    assert_eq!(
        refused(stranger.call(ask.clone()).await).as_deref(),
        Some("NOAUTH")
    );
    for (user, password) in [(PROBE_ROLE, "probe"), ("app", "guess")] {
        let said = stranger.call(words(["AUTH", user, password])).await;
        assert_eq!(refused(said).as_deref(), Some("WRONGPASS"), "{user}");
    }
    stranger
        .call(words(["AUTH", "default", ""]))
        .await
        .unwrap_err();
    let gone = stranger.call(words(["PING"])).await;
    assert!(
        matches!(gone, Err(RespError::Io(_))),
        "three are enough: {gone:?}"
    );
    let mut noise = set.dial(one, SENTINEL_PORT).await.unwrap();
    let long = "x".repeat(20 << 10);
    noise.call(words(["AUTH", "app", &long])).await.unwrap_err();
    let gone = noise.call(words(["PING"])).await;
    assert!(
        matches!(gone, Err(RespError::Io(_))),
        "nobody fills its memory: {gone:?}"
    );

    // A login of an application's own does, as long as there is that login.
    let mut orders = set.dial(one, SENTINEL_PORT).await.unwrap();
    orders.call(words(["AUTH", "orders", "own"])).await.unwrap();
    wait_for("the primary to be known", async || {
        primary(&mut orders, &set.name).await == Some(set.host(one))
    })
    .await;
    let mut app = sentinel(&set, one).await;
    set.logins.clear();
    set.mount(one);
    wait_for("its connection to end", async || {
        matches!(orders.call(words(["PING"])).await, Err(RespError::Io(_)))
    })
    .await;
    assert!(primary(&mut app, &set.name).await.is_some(), "others stay");

    // The agent's end is that of its clients; the next one answers as soon as it knows.
    let before = one.agent_pid();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(before),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    wait_for("the next agent to answer", async || {
        let Ok(mut client) = set.dial(one, SENTINEL_PORT).await else {
            return false;
        };
        let login = words(["AUTH", "app", &set.password]);
        client.call(login).await.is_ok()
            && client
                .call(ask.clone())
                .await
                .is_ok_and(|said| !said.items().is_empty())
    })
    .await;

    set.config.engine.sentinel = false;
    set.mount(one);
    wait_for("the port to be shut", async || {
        set.dial(one, SENTINEL_PORT).await.is_err()
    })
    .await;
    set.finish(pods);
}
