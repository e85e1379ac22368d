//! Applications with redis-py, ioredis and Jedis use a set as their Secret says, and follow its primary by the endpoint for
//! clients of a Sentinel.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use mainstay_redis::desired::sentinel;
use mainstay_redis::settings::PORT;
use mainstay_shared::metadata::SetId;
use mainstay_workload::ledger::Outcome;
use mainstay_workload::redis::{Confirm, Redis};
use mainstay_workload::writer::{Again, Engine, Session};

use super::clients::{self, Client, Language};
use super::names::{asking, names, where_names_are_known};
use super::pod::Set;
use super::sentinel::{answering, hand_over, primary, sentinel as endpoint};
use super::wait_for;

/// A name that leads to the set, and that no certificate has.
const STRANGE: &str = "cache.example";

/// The binding of the application, with another authority or another host if that is said.
fn bind(set: &Set, folder: &Path, ca: Option<&str>, host: Option<&str>) {
    let id = SetId {
        name: set.name.clone(),
        namespace: set.namespace.clone(),
        ..SetId::default()
    };
    let found = sentinel::keys(&id);
    let (primary, port) = (set.primary_host(), PORT.to_string());
    let mut keys: Vec<(&str, &str)> = found
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    keys.extend([
        ("host", host.unwrap_or(&primary)),
        ("port", &port),
        ("username", "app"),
        ("password", &set.password),
        ("ca.crt", ca.unwrap_or(set.ca())),
    ]);
    clients::mount(folder, &keys);
}

/// Start all where the set's names are known.
async fn start(names: &str, all: &[Language], mode: &'static str, binding: &Path) -> Vec<Client> {
    let (all, binding) = (all.to_vec(), binding.to_owned());
    where_names_are_known(names.to_owned(), move || {
        all.iter()
            .map(|l| l.start(mode, &binding, 0))
            .collect::<Vec<_>>()
    })
    .await
}

/// Until each has written some more, and how long each was kept from it at most.
async fn all_go_on(clients: &mut [Client], what: &str) {
    for client in clients.iter_mut() {
        client.more(20).await;
        println!("{what}: {} paused for {:?}", client.library, client.pause());
    }
}

#[tokio::test]
async fn applications_of_other_languages_connect_and_follow_the_primary() {
    let all = clients::all().await;
    let set = answering(3).await;
    let other = set.beside("other", 1).await;
    let mut pods = set.all(1).await;
    for pod in &pods {
        let mut client = endpoint(&set, pod).await;
        wait_for("the primary to be known", async || {
            primary(&mut client, &set.name).await == Some(set.host(&pods[0]))
        })
        .await;
    }
    let mut names = names(&set, &pods);
    for host in [&set.primary_host(), STRANGE] {
        writeln!(names, "{} {host}", pods[0].address).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let [right, wrong, strange] = ["right", "wrong", "strange"].map(|n| folder.path().join(n));
    bind(&set, &right, None, None);
    bind(&set, &wrong, Some(other.ca()), None);
    bind(&set, &strange, None, Some(STRANGE));

    // Who is somebody else is not told the password, neither by Redis' port nor by the endpoint's.
    let mut strangers = Vec::new();
    for (mode, binding) in [("host", &wrong), ("sentinel", &wrong), ("host", &strange)] {
        strangers.extend(start(&names, &all, mode, binding).await);
    }
    join_all(strangers.into_iter().map(Client::refuses)).await;
    // By the host of the Secret.
    let mut direct = start(&names, &all, "host", &right).await;
    for client in &mut direct {
        client.more(3).await;
    }
    for client in direct {
        assert!(client.complaints().is_empty(), "{}", client.complaints());
        client.finish().await;
    }
    assert!(set.connect(&pods[0]).await.unwrap().size().await > 8);

    // As clients of a Sentinel: another one takes over, and then it is lost.
    let mut clients = start(&names, &all, "sentinel", &right).await;
    all_go_on(&mut clients, "begin").await;
    hand_over(&set, &pods[0], &pods[1]).await;
    assert_eq!(set.leader(&pods, Some(0)).await, 1);
    all_go_on(&mut clients, "hand-over").await;
    pods[1].cut();
    let leader = set.leader(&pods, Some(1)).await;
    all_go_on(&mut clients, "loss").await;

    // So does what writes in the scenarios on a cluster.
    let workload = Redis {
        binding: right.clone(),
        run: "workload".into(),
        confirm: Confirm {
            replicas: 1,
            every: 1,
            within: Duration::from_secs(2),
        },
        fresh: false,
        sentinel: true,
    };
    let write = async move || workload.connect().await.unwrap().write(1, Again::No).await;
    let written = asking(names, write).await;
    assert_eq!(written.outcome, Outcome::Acknowledged, "{written:?}");
    let server = written.term.unwrap().server;
    assert!(server.starts_with(&pods[leader].address), "{server}");

    let mut db = set.connect(&pods[leader]).await.unwrap();
    for client in clients {
        let library = client.library;
        let complaints = client.complaints();
        let last = client.finish().await;
        println!("{library} wrote {last}, and said:\n{complaints}");
        assert!(last >= 60, "{library}: {last}");
        for number in 1..=last {
            let found = db.get(&Language::key(library, number)).await;
            assert_eq!(found, Some(number.to_string()), "{library}: {number}");
        }
    }
    set.finish(pods);
}
