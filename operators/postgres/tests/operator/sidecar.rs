//! Backup containers without an engine: the real HTTPS interface, with reports that the test decides, and one
//! repository behind all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use mainstay_backup::api::{
    ArchiveState, BackupEntry, ORDERS, Order, OrderResult, Outcome, OwnerState, PruneReport,
    REPORT, Report, Running,
};
use mainstay_shared::agent::listen::{Answer, Caller, Service, json, listen, read, text};
use mainstay_shared::names;
use mainstay_testkit::api::FakeApi;
use mainstay_testkit::cluster::FakeCluster;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the repository holds.
type Store = Arc<Mutex<Vec<BackupEntry>>>;

/// All of them, by uid of the pod.
#[derive(Default)]
pub struct Sidecars {
    running: BTreeMap<String, Sidecar>,
    store: Store,
}

/// One of them. It ends when it is dropped.
pub struct Sidecar {
    /// Name of its instance.
    pub instance: String,
    report: Arc<watch::Sender<Report>>,
    orders: Arc<Mutex<Vec<Order>>>,
    store: Store,
    task: JoinHandle<()>,
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sidecars {
    /// Start those whose pods run, and end the others.
    pub async fn turn(&mut self, api: &FakeApi, cluster: &FakeCluster) {
        let pods: Vec<Pod> = api.list();
        let uids: Vec<String> = pods.iter().filter_map(ResourceExt::uid).collect();
        self.running.retain(|uid, _| uids.contains(uid));
        for pod in pods {
            let first = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
            let wanted = first
                .into_iter()
                .flatten()
                .any(|c| c.name == names::BACKUP && c.restart_policy.as_deref() == Some("Always"));
            let uid = pod.uid().unwrap();
            if !wanted || self.running.contains_key(&uid) {
                continue;
            }
            let Some(agent) = cluster.agent("shop", &pod.name_any()) else {
                continue;
            };
            let port = u16::try_from(names::BACKUP_PORT).unwrap();
            let listener = TcpListener::bind((agent.ip(), port)).await.unwrap();
            let sidecar = Sidecar::start(
                listener,
                &pod.name_any(),
                agent.certificate(),
                Arc::clone(&self.store),
            );
            self.running.insert(uid, sidecar);
        }
    }

    /// That of an instance.
    pub fn of(&self, instance: &str) -> Option<&Sidecar> {
        self.running.values().find(|s| s.instance == instance)
    }

    /// All.
    pub fn all(&self) -> impl Iterator<Item = &Sidecar> {
        self.running.values()
    }

    /// Who makes a backup now, and for which order.
    pub fn maker(&self) -> Option<(&Sidecar, String)> {
        self.all()
            .find_map(|s| Some((s, s.report().running?.order)))
    }

    /// Texts of all orders to make a backup that came in, once each.
    pub fn takes(&self) -> Vec<String> {
        let orders = self.all().flat_map(Sidecar::orders);
        let mut all: Vec<String> = orders
            .filter_map(|order| match order {
                Order::Take { order, .. } => Some(order),
                _ => None,
            })
            .collect();
        all.sort();
        all.dedup();
        all
    }
}

impl Sidecar {
    fn start(
        listener: TcpListener,
        instance: &str,
        tls: Option<Arc<rustls::ServerConfig>>,
        store: Store,
    ) -> Self {
        let mut report = Report {
            sequence: 1,
            instance: instance.to_owned(),
            nonce: format!("{instance}.1"),
            catalogue: store.lock().unwrap().clone(),
            catalogue_at: Some(Timestamp::now()),
            latest: Some(Timestamp::now()),
            ..Report::default()
        };
        report.ownership.state = OwnerState::Ours;
        report.ownership.owner = Some("00112233445566778899aabbccddeeff".parse().unwrap());
        report.archive.state = ArchiveState::Ok;
        let (sender, receiver) = watch::channel(report);
        let report = Arc::new(sender);
        let orders: Arc<Mutex<Vec<Order>>> = Arc::default();
        let interface = Interface {
            seen: receiver,
            report: Arc::clone(&report),
            orders: Arc::clone(&orders),
            store: Arc::clone(&store),
        };
        let (sender, tls) = watch::channel(tls);
        let task = tokio::spawn(async move {
            listen(listener, tls, interface).await;
            drop(sender);
        });
        Self {
            instance: instance.to_owned(),
            report,
            orders,
            store,
            task,
        }
    }

    /// What it says.
    pub fn report(&self) -> Report {
        self.report.borrow().clone()
    }

    /// Change what it says.
    pub fn say(&self, change: impl FnOnce(&mut Report)) {
        say(&self.report, change);
    }

    /// What it was told.
    pub fn orders(&self) -> Vec<Order> {
        self.orders.lock().unwrap().clone()
    }

    /// It completes the backup that it makes.
    pub fn complete(&self) {
        let running = self.report().running.expect("it makes one");
        let now = Timestamp::now();
        let entry = BackupEntry {
            id: running.id.clone(),
            parent: None,
            order: Some(running.order.clone()),
            begun: running.begun,
            ended: now,
            consistent_at: now,
            plain_bytes: 4 << 30,
            stored_bytes: 1 << 30,
            log_from: None,
            history: None,
            broken: None,
        };
        self.store.lock().unwrap().push(entry);
        let all = self.store.lock().unwrap().clone();
        say(&self.report, |report| {
            report.running = None;
            report.catalogue = all;
            report.catalogue_at = Some(now);
            report.earliest = report.catalogue.first().map(|b| b.consistent_at);
            report.results.push(OrderResult {
                order: running.order,
                at: now,
                outcome: Outcome::Done { id: running.id },
            });
        });
    }

    /// It fails with the backup that it makes.
    pub fn fail(&self, why: &str, retryable: bool) {
        say(&self.report, |report| {
            let running = report.running.take().expect("it makes one");
            report.results.push(OrderResult {
                order: running.order,
                at: Timestamp::now(),
                outcome: Outcome::Failed {
                    why: why.to_owned(),
                    retryable,
                },
            });
        });
    }
}

fn say(report: &watch::Sender<Report>, change: impl FnOnce(&mut Report)) {
    report.send_modify(|report| {
        change(report);
        report.sequence += 1;
    });
}

#[derive(Clone)]
struct Interface {
    seen: watch::Receiver<Report>,
    report: Arc<watch::Sender<Report>>,
    orders: Arc<Mutex<Vec<Order>>>,
    store: Store,
}

impl Service for Interface {
    fn keeps(&self, caller: &Caller) -> bool {
        *caller == Caller::Operator
    }

    async fn answer(mut self, request: Request<Incoming>, caller: Caller, _: SocketAddr) -> Answer {
        if caller != Caller::Operator {
            return text(StatusCode::FORBIDDEN, "only for the operator");
        }
        let path = request.uri().path().to_owned();
        match (request.method().clone(), path.as_str()) {
            (Method::GET, REPORT) => {
                let query = request.uri().query().unwrap_or_default().to_owned();
                let value = |key: &str| {
                    let mut pairs = query.split('&').filter_map(|p| p.split_once('='));
                    pairs.find(|(k, _)| *k == key)?.1.parse::<u64>().ok()
                };
                if let Some(after) = value("after") {
                    let wait = Duration::from_millis(value("wait").unwrap_or(0));
                    let newer = self.seen.wait_for(|r| r.sequence != after);
                    let _ = tokio::time::timeout(wait, newer).await;
                }
                json(&*self.report.borrow())
            }
            (Method::POST, ORDERS) => match read::<Order>(request).await {
                Ok(order) => self.obey(order),
                Err(refused) => *refused,
            },
            _ => text(StatusCode::NOT_FOUND, "there is nothing here"),
        }
    }
}

impl Interface {
    fn obey(&self, order: Order) -> Answer {
        self.orders.lock().unwrap().push(order.clone());
        let now = Timestamp::now();
        match order {
            Order::Take {
                order, incremental, ..
            } => {
                let running = self.report.borrow().running.clone();
                if running.is_some_and(|r| r.order != order) {
                    return text(StatusCode::CONFLICT, "another backup is being made");
                }
                let done = |b: &BackupEntry| b.order.as_ref() == Some(&order);
                if !self.report.borrow().catalogue.iter().any(done) {
                    let mut random = [0; 8];
                    random[..4].copy_from_slice(&now.subsec_nanosecond().to_be_bytes());
                    say(&self.report, |report| {
                        report.running = Some(Running {
                            order,
                            id: mainstay_backup::ids::BackupId::new(now, random),
                            begun: now,
                            step: "copies files".to_owned(),
                            incremental,
                            plain_bytes: 0,
                            stored_bytes: 0,
                            total_bytes: Some(1000),
                            rate: 0,
                        });
                    });
                }
            }
            Order::Cancel { order } => say(&self.report, |report| {
                if report.running.as_ref().is_some_and(|r| r.order == order) {
                    report.running = None;
                    report.results.push(OrderResult {
                        order,
                        at: now,
                        outcome: Outcome::Cancelled,
                    });
                }
            }),
            Order::Prune { .. } => say(&self.report, |report| {
                report.prune = Some(PruneReport {
                    at: now,
                    backups: vec![],
                    pieces: 0,
                    waits: vec![],
                    error: None,
                    plan: String::new(),
                });
            }),
            Order::Refresh => {
                let all = self.store.lock().unwrap().clone();
                say(&self.report, |report| {
                    report.catalogue = all;
                    report.catalogue_at = Some(now);
                    report.earliest = report.catalogue.first().map(|b| b.consistent_at);
                });
            }
        }
        text(StatusCode::ACCEPTED, "taken")
    }
}
