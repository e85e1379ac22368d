//! The driver's loop: one thing that happens, one step of the machine, its effects. I/O.
//!
//! Nothing here waits for a disk, a peer or the API server: what does runs beside, and comes back
//! as something that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::disk::{Done, Job};
use super::driver::{Config, Leader, Setup};
use super::lease::{self, Look, Own};
use super::leases::{self, Outcome};
use super::peers::{Means, News, Peer};
use super::roster::Roster;
use super::tenure::Keeping;
use super::wire::{Envelope, Introduction, Message};
use crate::agent::clock::boottime;
use crate::agent::lease::follow::{Seen, follow};
use crate::agent::lease::point::{Pointer, Primary};
use crate::election::charter::{Charter, Durable};
use crate::election::machine::{Machine, Start};
use crate::election::member::{Ballot, Holder, Member, Position, Text};
use crate::election::message::{Effect, Engine, Input, Order, Sight, Wanted, Write, Written};
use crate::names;

/// Pause before another try to make a client of the API server.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause before endpoints that could not be written are tried again.
const POINT_AGAIN: Duration = Duration::from_secs(2);

/// What the driver tells.
pub(super) struct Told {
    pub(super) wanted: watch::Sender<Wanted>,
    pub(super) wait: watch::Sender<Option<String>>,
    pub(super) charter: watch::Sender<Option<Charter>>,
    pub(super) leader: watch::Sender<Option<Leader>>,
    pub(super) held: watch::Sender<Option<Ballot>>,
    pub(super) me: watch::Sender<Member>,
    pub(super) introduction: watch::Sender<Introduction>,
    pub(super) names: watch::Sender<BTreeSet<String>>,
    pub(super) turned: Arc<AtomicU64>,
}

/// Where things happen.
pub(super) struct Inbox {
    pub(super) setup: watch::Receiver<Setup>,
    pub(super) engine: watch::Receiver<Engine>,
    pub(super) identifier: watch::Receiver<Option<String>>,
    pub(super) orders: Receiver<Order>,
    pub(super) renewals: Receiver<oneshot::Sender<Member>>,
    pub(super) messages: Receiver<(Envelope, IpAddr)>,
    pub(super) results: UnboundedReceiver<Returned>,
    pub(super) disk: UnboundedReceiver<Done>,
    pub(super) news: UnboundedReceiver<News>,
    pub(super) lease: Option<watch::Receiver<Option<Seen<Lease>>>>,
}

/// What ran beside has come back.
pub(super) enum Returned {
    /// A client of the API server.
    Client(Client),
    /// There is none yet.
    NoClient(String),
    /// The Lease was read. `began` is the number of versions known when that began.
    Looked {
        began: u64,
        lease: Result<Option<Box<Lease>>, String>,
    },
    /// A write is over.
    Wrote(Outcome),
}

enum Event {
    Time,
    Setup,
    Engine,
    Identifier,
    Order(Order),
    Renew(oneshot::Sender<Member>),
    Message(Box<(Envelope, IpAddr)>),
    Returned(Returned),
    Disk(Done),
    News(News),
    Lease,
    /// Nobody is there any more.
    End,
}

impl Inbox {
    /// What happens next; the time comes first, whatever else there is.
    async fn next(&mut self, until: Instant) -> Event {
        let lease = async {
            if let Some(lease) = &mut self.lease
                && lease.changed().await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = sleep_until(until) => Event::Time,
            Some(returned) = self.results.recv() => Event::Returned(returned),
            Some(done) = self.disk.recv() => Event::Disk(done),
            changed = self.engine.changed() => match changed {
                Ok(()) => Event::Engine,
                Err(_) => Event::End,
            },
            () = lease => Event::Lease,
            Some(order) = self.orders.recv() => Event::Order(order),
            Some(done) = self.renewals.recv() => Event::Renew(done),
            Ok(()) = self.setup.changed() => Event::Setup,
            Ok(()) = self.identifier.changed() => Event::Identifier,
            Some(news) = self.news.recv() => Event::News(news),
            Some(message) = self.messages.recv() => Event::Message(Box::new(message)),
        }
    }
}

/// What a loop starts with.
pub(super) struct Beginning {
    pub(super) config: Config,
    pub(super) me: Member,
    pub(super) told: Told,
    pub(super) jobs: Sender<Job>,
    pub(super) results: UnboundedSender<Returned>,
    pub(super) news: UnboundedSender<News>,
}

/// The loop's state.
pub(super) struct Loop {
    config: Config,
    setup: Setup,
    me: Member,
    machine: Machine,
    roster: Roster,
    told: Told,
    jobs: Sender<Job>,
    results: UnboundedSender<Returned>,
    means: Means,
    peers: BTreeMap<String, Peer>,
    tenure: Keeping,
    client: Option<Client>,
    pointed: watch::Sender<Option<u64>>,
    identifier: Option<String>,
    position: Option<Position>,
    /// The object that was seen or written last, also after it is gone.
    lease: Option<Lease>,
    /// What it says, while it is there.
    look: Option<Look>,
    /// How many versions were taken in.
    versions: u64,
    reading: bool,
    may_found: bool,
    /// Which epoch durably claimed which timeline.
    claims: BTreeSet<(u64, u64)>,
    claiming: Option<(u64, u64)>,
    /// Becoming a new member: nothing is done in the name of the old one.
    renewing: Option<oneshot::Sender<Member>>,
    trouble: Option<String>,
}

impl Loop {
    pub(super) fn new(beginning: Beginning, inbox: &mut Inbox) -> Self {
        let Beginning {
            config,
            me,
            told,
            jobs,
            results,
            news,
        } = beginning;
        let memory = config.store.get();
        let setup = inbox.setup.borrow_and_update().clone();
        let tenure = Keeping::new(&config.run);
        let start = Start {
            me: holder(&config, &me),
            policy: setup.policy,
            durable: memory.election,
            now: boottime(),
        };
        let machine = match tenure.take().filter(|_| config.resume) {
            Some(term) => Machine::resume(start, term),
            None => Machine::new(start),
        };
        if let Some(ballot) = machine.holds() {
            tracing::info!(epoch = %ballot.epoch, "the term of the process before goes on");
        }
        Self {
            means: Means {
                resolve: Arc::clone(&config.resolve),
                tls: config.tls.clone(),
                news,
                port: config.agent_port,
                every: setup.policy.timing.renew,
            },
            roster: Roster::new(me.clone(), memory.peers),
            claims: memory.promotions.into_iter().collect(),
            config,
            setup,
            me,
            machine,
            told,
            jobs,
            results,
            peers: BTreeMap::new(),
            tenure,
            client: None,
            pointed: watch::Sender::new(None),
            identifier: None,
            position: None,
            lease: None,
            look: None,
            versions: 0,
            reading: false,
            may_found: false,
            claiming: None,
            renewing: None,
            trouble: None,
        }
    }

    /// Turn until nobody is there any more.
    pub(super) async fn run(mut self, mut inbox: Inbox) {
        self.make_client(Duration::ZERO);
        self.take_setup(&inbox);
        let mut tick = Instant::now();
        loop {
            let now = boottime();
            let millis = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
            self.told.turned.store(millis, Ordering::Relaxed);
            let until = self.machine.deadline().map_or(tick, |deadline| {
                tick.min(Instant::now() + deadline.saturating_sub(now))
            });
            match inbox.next(until).await {
                Event::Time => {
                    tick = Instant::now() + self.setup.policy.timing.renew / 4;
                    self.step(Input::Tick);
                }
                Event::Setup => self.take_setup(&inbox),
                Event::Engine => self.take_engine(&mut inbox),
                Event::Identifier => {
                    self.identifier
                        .clone_from(&inbox.identifier.borrow_and_update());
                }
                Event::Order(order) => self.step(Input::Order(order)),
                Event::Renew(done) => self.begin_anew(done),
                Event::Message(message) => self.hear(*message),
                Event::Returned(returned) => self.take(returned, &mut inbox),
                Event::Disk(done) => self.take_done(done, &mut inbox),
                Event::News(news) => self.meet(&news),
                Event::Lease => self.watched(&mut inbox),
                Event::End => return,
            }
        }
    }

    /// One step of the machine.
    fn step(&mut self, input: Input) {
        if self.renewing.is_some() {
            return;
        }
        let stamp = self.machine.charter().map(Charter::stamp);
        for effect in self.machine.step(boottime(), input) {
            self.perform(effect);
        }
        if self.machine.charter().map(Charter::stamp) != stamp {
            self.gather();
        }
        self.publish();
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::HardStop => (self.config.hard_stop)(),
            Effect::Persist(durable) => self.job(Job::Durable(durable)),
            Effect::WriteLease(write) => self.write(*write),
            Effect::ReadLease => self.read(),
            Effect::Ask(to, ask) => self.send(to, Message::Ask(ask)),
            Effect::Answer(to, answer) => self.send(to, Message::Answer(answer)),
        }
    }

    fn job(&mut self, job: Job) {
        if self.jobs.send(job).is_err() {
            self.trouble = Some("the thread that writes to the volume has ended".to_owned());
        }
    }

    fn send(&mut self, to: Member, message: Message) {
        let name = to.name.clone();
        let from = self.me.clone();
        self.peer(name.as_str())
            .send(Envelope { from, to, message });
    }

    fn peer(&mut self, name: &str) -> &Peer {
        let place = &self.config.place;
        let (means, known) = (&self.means, self.roster.address(name));
        self.peers.entry(name.to_owned()).or_insert_with(|| {
            let host = names::instance_host(name, &place.set, &place.namespace);
            let peer = Peer::new(name, &host, means.clone());
            if let Some(address) = known {
                peer.learn(address);
            }
            peer
        })
    }

    // The API server.

    fn make_client(&self, after: Duration) {
        let (connect, results) = (Arc::clone(&self.config.connect), self.results.clone());
        tokio::spawn(async move {
            sleep(after).await;
            let returned = match connect().await {
                Ok(client) => Returned::Client(client),
                Err(why) => Returned::NoClient(why),
            };
            // Nobody is there any more when the driver has ended: so everywhere below.
            let _ = results.send(returned);
        });
    }

    fn api(&self) -> Option<Api<Lease>> {
        let client = self.client.clone()?;
        Some(Api::namespaced(client, &self.config.place.namespace))
    }

    fn begin_talking(&mut self, client: Client, inbox: &mut Inbox) {
        let place = &self.config.place;
        let leases = Api::namespaced(client.clone(), &place.namespace);
        inbox.lease = Some(follow(leases, place.set.clone()));
        let pointer = Pointer::new(
            client.clone(),
            Primary {
                namespace: place.namespace.clone(),
                set: place.set.clone(),
                instance: place.instance.clone(),
                address: place.address.to_string(),
                port_name: place.port_name.clone(),
                port: place.port,
            },
        );
        tokio::spawn(point(pointer, self.pointed.subscribe()));
        self.client = Some(client);
        self.step(Input::Tick);
    }

    fn read(&mut self) {
        let (Some(api), false) = (self.api(), self.reading) else {
            return;
        };
        self.reading = true;
        let name = self.config.place.set.clone();
        let bound = self.setup.policy.timing.renew;
        let (results, began) = (self.results.clone(), self.versions);
        tokio::spawn(async move {
            let lease = leases::look(api, &name, bound).await;
            let lease = lease.map(|l| l.map(Box::new));
            let _ = results.send(Returned::Looked { began, lease });
        });
    }

    fn write(&mut self, write: Write) {
        let place = &self.config.place;
        let timing = self.setup.policy.timing;
        let own = Own {
            namespace: &place.namespace,
            set: &place.set,
            labels: &place.labels,
            instance: &place.instance,
            address: place.address,
            identifier: self.identifier.as_deref(),
            duration: timing.duration,
        };
        let lease = lease::written(self.lease.as_ref(), &write, &own, Timestamp::now());
        let ready = match (self.api(), lease) {
            (Some(api), Ok(lease)) => Ok((api, lease)),
            (None, _) => Err("there is no client of the API server yet".to_owned()),
            (_, Err(error)) => Err(error.to_string()),
        };
        let (results, name) = (self.results.clone(), place.set.clone());
        tokio::spawn(async move {
            let began = Instant::now();
            let outcome = match ready {
                Ok((api, lease)) => leases::write(api, &name, &write, &lease, timing.renew).await,
                Err(why) => Outcome::Refused(why),
            };
            // What fails at once would be tried again at once.
            if matches!(outcome, Outcome::Refused(_) | Outcome::Unanswered(_)) {
                sleep_until(began + timing.renew / 4).await;
            }
            let _ = results.send(Returned::Wrote(outcome));
        });
    }

    fn take(&mut self, returned: Returned, inbox: &mut Inbox) {
        match returned {
            Returned::Client(client) => self.begin_talking(client, inbox),
            Returned::NoClient(why) => {
                self.note(Some(why));
                self.make_client(AGAIN);
            }
            Returned::Looked { began, lease } => {
                self.reading = false;
                match lease {
                    // An answer from before what is known now.
                    Ok(lease) if began != self.versions && !self.is_newer(lease.as_deref()) => {}
                    Ok(lease) => self.accept(lease.map(|l| *l)),
                    Err(why) => {
                        self.note(Some(why));
                        self.publish();
                    }
                }
            }
            Returned::Wrote(outcome) => self.wrote(outcome),
        }
    }

    fn wrote(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done(lease) => match self.keep(*lease) {
                Ok(version) => {
                    self.note(None);
                    self.step(Input::Written(Written::Done(version)));
                    self.may_found();
                }
                Err(why) => {
                    self.note(Some(why));
                    self.step(Input::Written(Written::Unanswered));
                }
            },
            Outcome::Conflict(lease) => {
                self.accept(lease.map(|l| *l));
                self.step(Input::Written(Written::Conflict));
            }
            Outcome::Refused(why) => {
                self.note(Some(why));
                self.step(Input::Written(Written::Conflict));
            }
            Outcome::Unanswered(why) => {
                self.note(Some(why));
                self.step(Input::Written(Written::Unanswered));
            }
        }
    }

    /// The watch tells something. A Lease that it says is gone, and may only have been gone once,
    /// is looked at.
    fn watched(&mut self, inbox: &mut Inbox) {
        let Some(watched) = &mut inbox.lease else {
            return;
        };
        let Some(Seen { object, .. }) = watched.borrow_and_update().clone() else {
            return;
        };
        match object {
            None => self.read(),
            Some(lease) if self.is_newer(Some(&lease)) => self.accept(Some(lease)),
            Some(_) => {}
        }
    }

    /// Whether it is neither the version known nor one before it.
    fn is_newer(&self, lease: Option<&Lease>) -> bool {
        match (lease, &self.lease) {
            (Some(new), Some(known)) => {
                let same = lease::version(new) == lease::version(known);
                !lease::is_older(new, known) && (!same || self.look.is_none())
            }
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// The Lease is this one now, or there is none.
    fn accept(&mut self, lease: Option<Lease>) {
        let sight = match lease {
            None => {
                self.versions += 1;
                self.look = None;
                self.note(None);
                Sight::Missing
            }
            Some(lease) => {
                let kept = self.keep(lease);
                match (kept, &self.look) {
                    (Ok(_), Some(look)) => {
                        let seen = look.seen.clone();
                        self.note(None);
                        Sight::Seen(seen)
                    }
                    (kept, _) => {
                        self.note(kept.err());
                        self.publish();
                        return;
                    }
                }
            }
        };
        self.may_found();
        self.step(Input::Lease(sight));
    }

    /// Take in a version.
    fn keep(&mut self, lease: Lease) -> Result<Text, String> {
        let look = lease::read(&lease).map_err(|e| e.to_string())?;
        let version = look.seen.version.clone();
        if let (Some(holder), Some(address)) = (&look.seen.holder, look.address)
            && holder.member.name != self.me.name
            && self.setup.members.contains(holder.member.name.as_str())
        {
            let name = holder.member.name.to_string();
            self.peer(&name).learn(address);
        }
        self.versions += 1;
        self.lease = Some(lease);
        self.look = Some(look);
        Ok(version)
    }

    fn may_found(&mut self) {
        let instance = &self.config.place.instance;
        let may = self.look.as_ref().is_some_and(|l| l.may_found(instance));
        if may != self.may_found {
            self.may_found = may;
            self.step(Input::MayFound(may));
        }
    }

    fn note(&mut self, trouble: Option<String>) {
        if let Some(why) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            tracing::warn!(%why, "the Lease");
        }
        self.trouble = trouble;
    }

    // Peers.

    fn hear(&mut self, (envelope, source): (Envelope, IpAddr)) {
        let Envelope { from, to, message } = envelope;
        if to != self.me {
            return;
        }
        let heard = self.roster.has_heard(&from);
        let peer = self.peer(from.name.as_str());
        peer.learn(source);
        if !heard {
            peer.introduce();
        }
        self.step(match message {
            Message::Ask(ask) => Input::Asked(from, ask),
            Message::Answer(answer) => Input::Answered(from, answer),
        });
    }

    fn meet(&mut self, news: &News) {
        let member = &news.introduction.member;
        let address = news.introduction.address.parse().unwrap_or(news.address);
        if let Some(peer) = self.peers.get(member.name.as_str()) {
            peer.learn(address);
        }
        if self.roster.meet(member, Some(address)) {
            tracing::info!(peer = %member, %address, "a peer introduced itself");
            self.job(Job::Met(self.roster.met().clone()));
            self.gather();
            self.publish();
        }
    }

    /// Who is in the set, and connections to them.
    fn gather(&mut self) {
        let charter = self.machine.charter().cloned();
        let names = self.roster.names(&self.setup, charter.as_ref());
        self.peers.retain(|name, _| names.contains(name));
        for name in &names {
            self.peer(name);
        }
        self.told.names.send_if_modified(|told| {
            let changed = *told != names;
            told.clone_from(&names);
            changed
        });
        let members = self.roster.members(&self.setup, charter.as_ref());
        // It leads to no charter by itself that would lead back here: a charter is written first.
        if self.renewing.is_none() {
            let input = Input::Peers(members);
            for effect in self.machine.step(boottime(), input) {
                self.perform(effect);
            }
        }
    }

    // The rest of the agent.

    fn take_setup(&mut self, inbox: &Inbox) {
        let setup = inbox.setup.borrow().clone();
        if let Err(error) = setup.policy.timing.check() {
            tracing::error!(%error, "the setup is refused: the one before stays in force");
            return;
        }
        self.means.every = setup.policy.timing.renew;
        self.setup = setup;
        self.gather();
        self.step(Input::Policy(self.setup.policy));
    }

    fn take_engine(&mut self, inbox: &mut Inbox) {
        let engine = inbox.engine.borrow_and_update().clone();
        self.position = match &engine {
            Engine::Detached { position, .. } => Some(*position),
            Engine::Primary(primary) => Some(Position {
                epoch: primary.ballot.epoch,
                lsn: primary.lsn,
            }),
            Engine::Unknown | Engine::Empty | Engine::Following(_) => None,
        };
        self.step(Input::Engine(engine));
    }

    fn begin_anew(&mut self, done: oneshot::Sender<Member>) {
        if self.machine.holds().is_some() || self.renewing.is_some() {
            tracing::warn!("the data of a holder is not made anew");
            return;
        }
        let generation = match mint() {
            Ok(generation) => generation,
            Err(why) => return self.note(Some(why)),
        };
        self.renewing = Some(done);
        self.told.wanted.send_replace(Wanted::Unchanged);
        self.job(Job::Renew(generation));
    }

    fn take_done(&mut self, done: Done, inbox: &mut Inbox) {
        match done {
            Done::Durable(durable) => self.step(Input::Persisted(durable)),
            Done::Claim {
                timeline,
                epoch,
                refused: None,
            } => {
                self.claims.insert((timeline, epoch));
                self.publish();
            }
            Done::Claim {
                refused: Some(why), ..
            }
            | Done::Failed(why) => {
                self.note(Some(why));
                self.publish();
            }
            Done::Renew(generation) => self.be_anew(&generation, inbox),
        }
    }

    fn be_anew(&mut self, generation: &str, inbox: &mut Inbox) {
        self.me = Member::new(self.config.place.instance.as_str(), generation);
        tracing::info!(member = %self.me, "the data is made anew, by a new member");
        self.roster.become_member(self.me.clone());
        self.claims.clear();
        (self.claiming, self.may_found, self.position) = (None, false, None);
        self.machine = Machine::new(Start {
            me: holder(&self.config, &self.me),
            policy: self.setup.policy,
            durable: Durable::default(),
            now: boottime(),
        });
        let done = self.renewing.take();
        self.gather();
        self.may_found();
        if let Some(look) = &self.look {
            self.step(Input::Lease(Sight::Seen(look.seen.clone())));
        }
        self.take_engine(inbox);
        if let Some(done) = done {
            // The caller may have given up.
            let _ = done.send(self.me.clone());
        }
    }

    // What is told.

    fn publish(&mut self) {
        if self.renewing.is_some() {
            return;
        }
        let held = self.machine.holds().cloned();
        if held.as_ref().map(|b| b.epoch) != self.told.held.borrow().as_ref().map(|b| b.epoch) {
            if let Some(ballot) = &held {
                tracing::info!(epoch = %ballot.epoch, "the Lease is held");
            } else {
                tracing::info!("the Lease is not held any more");
            }
        }
        self.tenure.keep(self.machine.tenure());
        let wanted = self.shown();
        let pointed = match &wanted {
            Wanted::Primary {
                ballot, open: true, ..
            } if held.is_some() => Some(ballot.epoch.0),
            _ => None,
        };
        let charter = self.machine.charter().cloned();
        let leader = charter.as_ref().map(|c| self.leader(&c.ballot));
        let wait = self.machine.wait().map(ToString::to_string);
        let wait = match (wait, &self.trouble) {
            (Some(wait), Some(trouble)) => Some(format!("{wait} ({trouble})")),
            (wait, trouble) => wait.or_else(|| trouble.clone()),
        };
        set(&self.told.introduction, self.introduction());
        set(&self.told.me, self.me.clone());
        set(&self.told.charter, charter);
        set(&self.told.leader, leader);
        set(&self.told.held, held);
        set(&self.told.wait, wait);
        set(&self.told.wanted, wanted);
        set(&self.pointed, pointed);
    }

    /// How the engine should be, once it is durable which epoch claims the timeline.
    fn shown(&mut self) -> Wanted {
        let wanted = self.machine.wanted();
        let Wanted::Primary {
            ballot, timeline, ..
        } = &wanted
        else {
            return wanted;
        };
        let claim = (*timeline, ballot.epoch.0);
        if self.claims.contains(&claim) {
            return wanted;
        }
        if self.claiming != Some(claim) {
            self.claiming = Some(claim);
            let (timeline, epoch) = claim;
            self.job(Job::Claim { timeline, epoch });
        }
        Wanted::Detached
    }

    fn leader(&self, ballot: &Ballot) -> Leader {
        let name = ballot.holder.member.name.as_str();
        let by_lease = self.look.as_ref().filter(|look| {
            let charter = look.seen.charter.as_ref();
            charter.is_some_and(|c| c.ballot == *ballot)
        });
        let address = if name == self.config.place.instance {
            Some(self.config.place.address)
        } else {
            let by_lease = by_lease.and_then(|look| look.address);
            by_lease.or_else(|| self.roster.address(name))
        };
        Leader {
            ballot: ballot.clone(),
            address,
        }
    }

    fn introduction(&self) -> Introduction {
        let place = &self.config.place;
        let zone = self.setup.zones.get(&place.instance);
        Introduction {
            member: self.me.clone(),
            zone: zone.map(|z| Text::from(z.as_str())),
            position: self.position,
            address: place.address.to_string(),
        }
    }
}

fn set<T: PartialEq>(told: &watch::Sender<T>, value: T) {
    told.send_if_modified(|old| {
        let changed = *old != value;
        *old = value;
        changed
    });
}

fn holder(config: &Config, me: &Member) -> Holder {
    Holder {
        member: me.clone(),
        pod: config.place.pod_uid.as_str().into(),
        nonce: config.place.nonce.as_str().into(),
    }
}

/// A generation that no other data has.
pub(super) fn mint() -> Result<String, String> {
    match getrandom::u64() {
        Ok(number) => Ok(format!("{number:016x}")),
        Err(error) => Err(format!("no random numbers: {error}")),
    }
}

/// Have the endpoints lead here while there is an epoch.
async fn point(mut pointer: Pointer, mut epoch: watch::Receiver<Option<u64>>) {
    loop {
        let now = *epoch.borrow_and_update();
        match now {
            Some(epoch) => pointer.point(epoch).await,
            None => pointer.rest(),
        }
        tokio::select! {
            changed = epoch.changed() => if changed.is_err() { return },
            () = pointer.changed() => {}
            () = sleep(POINT_AGAIN), if now.is_some() => {}
        }
    }
}
