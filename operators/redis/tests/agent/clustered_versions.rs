//! A cluster goes from Redis 7.0 to 8.0 under load, with the pods made anew as the operator does.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use mainstay_crds::common::InstanceRole;
use mainstay_e2e::tools::Server;
use mainstay_redis::settings::DATA;
use mainstay_shared::agent::api::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::clustered::Operator;
use crate::clustered_backup::formed;
use crate::pod::{Db, LONG, Pod, Set, programs};

/// A write that has no answer by then is tried elsewhere.
const TRIES: Duration = Duration::from_millis(500);
const KEYS: u64 = 300;

/// Where a member is, for who only connects to it.
fn place(pod: &Pod) -> Pod {
    Pod {
        name: pod.name.clone(),
        address: pod.address.clone(),
        root: pod.root.clone(),
        init: None,
        owner: None,
        engine: pod.engine,
    }
}

/// What a client wrote: of each key what a replica had, too, and what was only sent after that.
#[derive(Default)]
struct Ledger {
    confirmed: BTreeMap<String, u64>,
    sent: BTreeMap<String, u64>,
    /// Longest time without a confirmed write.
    gap: Duration,
}

/// Somebody who knows where all members are and asks one after the other.
struct Client<'a> {
    set: &'a Set,
    members: Vec<(Pod, Option<Db>)>,
}

impl<'a> Client<'a> {
    fn new(set: &'a Set, pods: &[Pod]) -> Self {
        let members = pods.iter().map(|pod| (place(pod), None)).collect();
        Self { set, members }
    }

    /// Some member's answer; none when none has one. `confirmed`: and a replica has it, too.
    async fn ask(&mut self, command: &[&str], confirmed: bool) -> Option<Option<String>> {
        for (pod, db) in &mut self.members {
            if db.is_none() {
                let new = tokio::time::timeout(TRIES, self.set.connect(pod)).await;
                *db = new.ok().and_then(Result::ok);
            }
            let Some(connected) = db else { continue };
            let words = command.iter().map(|w| (*w).to_owned()).collect();
            match tokio::time::timeout(TRIES, connected.call(words)).await {
                Ok(Ok(value)) => {
                    let has = !confirmed || connected.confirmed().await;
                    return has.then(|| value.text());
                }
                Ok(Err(error)) if error.code().is_some() => {}
                Ok(Err(_)) | Err(_) => *db = None,
            }
        }
        None
    }

    /// Writes until it is told to end.
    async fn write(mut self, end: &Cell<bool>) -> Ledger {
        let mut ledger = Ledger::default();
        let mut last = Instant::now();
        for version in 1_u64.. {
            if end.get() {
                break;
            }
            let key = format!("written-{}", version % KEYS);
            ledger.sent.insert(key.clone(), version);
            let value = version.to_string();
            if self.ask(&["SET", &key, &value], true).await.is_some() {
                ledger.confirmed.insert(key, version);
                ledger.gap = ledger.gap.max(last.elapsed());
                last = Instant::now();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        ledger
    }

    /// Nothing that was confirmed is lost.
    async fn holds(&mut self, ledger: &Ledger) {
        for (key, confirmed) in &ledger.confirmed {
            let found = self.ask(&["GET", key], false).await;
            let found = found.expect("somebody answers");
            let found: u64 = found.unwrap_or_default().parse().unwrap_or(0);
            // What was sent after that may be there, and may not.
            let sent = ledger.sent[key];
            assert!(
                (*confirmed..=sent).contains(&found),
                "{key} is {found}; {confirmed} was confirmed, {sent} sent last"
            );
        }
    }
}

/// What is done to a set on its way.
struct Way<'a> {
    set: &'a Set,
    newer: &'a Path,
    operator: Operator,
    /// Members that shall be made anew.
    outdated: BTreeSet<String>,
    /// Who got a new volume.
    renewed: BTreeSet<String>,
}

impl Way<'_> {
    /// One pass, and what the operator does with what is granted. Whether nothing is left to do.
    async fn pass(&mut self, pods: &mut [Pod]) -> bool {
        self.operator.hear(self.set, pods).await;
        let steered = self.operator.pass(pods, &self.outdated).await;
        for wait in &steered.waits {
            println!("{}: {}", wait.step, wait.reason);
        }
        let Some(granted) = steered.granted else {
            return steered.calm && !steered.works;
        };
        let pod = pods.iter_mut().find(|p| p.name == granted).unwrap();
        assert!(pod.terminate(), "{}", pod.log());
        if steered.superseded.contains_key(&granted) {
            let spared = steered.spared.contains(&granted);
            assert!(spared, "{granted} has what nobody else has");
            fs::remove_dir_all(pod.path(DATA)).unwrap();
            fs::create_dir_all(pod.path(DATA)).unwrap();
            self.renewed.insert(granted.clone());
        }
        self.set.mount(pod);
        let uid = format!("uid-of-{granted}-anew");
        self.set.start_with(pod, &uid, self.newer);
        self.outdated.remove(&granted);
        false
    }

    /// Until nobody is left, and all is as it should be.
    async fn ends(&mut self, pods: &mut [Pod]) {
        let begun = Instant::now();
        while !self.pass(pods).await {
            assert!(begun.elapsed() < LONG * 5, "left: {:?}", self.outdated);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn runs_newer(status: &Status) -> bool {
    let version = status.engine_version.as_deref().unwrap_or_default();
    status.ready && version.starts_with("8.0.")
}

#[tokio::test]
async fn a_cluster_goes_to_a_newer_version_under_load_also_when_a_primary_is_lost_half_way() {
    let mut set = Set::of(Server::Redis7, 6).await;
    let (mut pods, operator) = formed(&mut set).await;
    let newer = programs(Server::Redis8).await;
    set.config.engine.version = Server::Redis8.version().into();
    for pod in &pods {
        set.mount(pod);
    }
    let set = &set;
    let shards = operator.cluster().shards;
    let end = Cell::new(false);
    let mut reader = Client::new(set, &pods);
    let writes = Client::new(set, &pods).write(&end);
    let changes = async {
        let mut way = Way {
            set,
            newer: newer.path(),
            operator,
            outdated: shards[0].replicas.iter().cloned().collect(),
            renewed: BTreeSet::new(),
        };
        way.ends(&mut pods).await;
        assert_eq!(way.renewed, BTreeSet::new(), "8.0 reads what 7.0 wrote");

        // Its replica is newer, and is elected: it comes back to what it does not read, with nothing to go on from.
        let primary = &shards[0].primary;
        let at = pods.iter().position(|p| p.name == *primary).unwrap();
        kill(Pid::from_raw(pods[at].engine_pid()), Signal::SIGKILL).unwrap();
        let back = |s: &Status| s.role == InstanceRole::Replica;
        set.until(&pods[at], "to be a replica again", back).await;
        let refuses = || pods[at].log().contains("Can't handle RDB format version");
        crate::wait_for("it to refuse what it is sent", async || refuses()).await;
        let status = set.agent(&pods[at]).status(None, Duration::ZERO).await;
        assert!(!status.unwrap().ready, "it has nothing, and is ready");
        // Also where nobody has asked for another version of it.
        way.ends(&mut pods).await;
        assert_eq!(way.renewed, BTreeSet::from([primary.clone()]));

        let all = pods.iter().map(|p| p.name.clone());
        way.outdated = all
            .filter(|name| !shards[0].replicas.contains(name) && name != primary)
            .collect();
        way.ends(&mut pods).await;
        // Who handed over to a newer one is a replica that could leave something out.
        let handed: BTreeSet<String> = shards.iter().map(|s| s.primary.clone()).collect();
        assert_eq!(way.renewed, handed);
        end.set(true);
        way.operator.cluster()
    };
    let (ledger, now) = tokio::join!(writes, changes);
    assert!(now.slots == 16384 && now.shards.len() == 3, "{now:?}");
    for pod in &pods {
        set.until(pod, "to run 8.0", runs_newer).await;
    }
    assert!(ledger.confirmed.len() > 100, "{}", ledger.confirmed.len());
    reader.holds(&ledger).await;
    println!("writes paused for {:?} at most", ledger.gap);
    set.finish(pods);
}
