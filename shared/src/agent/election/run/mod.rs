//! The driver's loop: one thing that happens, one step of the machine, its effects. I/O.
//!
//! Nothing here waits for a disk, a peer or the API server: what does runs beside, and comes back
//! as something that happens.

mod cluster;
mod stranded;
mod talk;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::disk::{Done, Job};
use super::driver::{Config, Leader, Setup};
use super::lease::Look;
use super::leases::Outcome;
use super::peers::{Means, News, Peer};
use super::reach::Reach;
use super::roster::Roster;
use super::tenure::Keeping;
use super::wire::{Envelope, Introduction, Message};
use crate::agent::clock::boottime;
use crate::agent::lease::follow::Seen;
use crate::election::charter::{Charter, Durable};
use crate::election::machine::{Machine, Start};
use crate::election::member::{Ballot, Holder, Member, Moment, Position};
use crate::election::message::{Effect, Engine, Input, Order, Sight, Wanted};
use stranded::Words;

/// What the driver tells.
pub(super) struct Told {
    pub(super) wanted: watch::Sender<Wanted>,
    pub(super) wait: watch::Sender<Option<String>>,
    pub(super) charter: watch::Sender<Option<Charter>>,
    pub(super) leader: watch::Sender<Option<Leader>>,
    pub(super) set: watch::Sender<Option<String>>,
    pub(super) held: watch::Sender<Option<Ballot>>,
    pub(super) me: watch::Sender<Member>,
    pub(super) leads_here: watch::Sender<bool>,
    pub(super) reach: watch::Sender<Option<Moment>>,
    pub(super) introduction: watch::Sender<Introduction>,
    pub(super) names: watch::Sender<BTreeSet<String>>,
    pub(super) turned: Arc<AtomicU64>,
}

/// Where things happen.
pub(super) struct Inbox {
    pub(super) setup: watch::Receiver<Setup>,
    pub(super) engine: watch::Receiver<Engine>,
    pub(super) asks: watch::Receiver<bool>,
    pub(super) identifier: watch::Receiver<Option<String>>,
    pub(super) orders: Receiver<Order>,
    pub(super) renewals: Receiver<oneshot::Sender<Member>>,
    pub(super) messages: Receiver<(Envelope, IpAddr)>,
    pub(super) callers: Receiver<(String, IpAddr)>,
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
    Called(String, IpAddr),
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
            Some((name, from)) = self.callers.recv() => Event::Called(name, from),
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
    reach: Reach,
    may_found: bool,
    /// Which epoch durably claimed which timeline.
    claims: BTreeSet<(u64, u64)>,
    claiming: Option<(u64, u64)>,
    /// Becoming a new member: nothing is done in the name of the old one.
    renewing: Option<oneshot::Sender<Member>>,
    trouble: Option<String>,
    words: Words,
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
                own: config.place.address,
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
            reach: Reach::default(),
            may_found: false,
            claiming: None,
            renewing: None,
            trouble: None,
            words: Words::default(),
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
                    self.turn_words();
                    let renew = self.setup.policy.timing.renew;
                    if *inbox.asks.borrow() && self.reach.is_old(now, renew) {
                        self.read();
                    }
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
                Event::Called(name, from) => self.called(&name, from),
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
        self.step(Input::Room(self.setup.room));
    }

    fn take_engine(&mut self, inbox: &mut Inbox) {
        let engine = inbox.engine.borrow_and_update().clone();
        self.position = match &engine {
            Engine::Detached { position, .. } => Some(*position),
            Engine::Primary(primary) => Some(Position {
                epoch: primary.ballot.epoch,
                lsn: primary.lsn,
            }),
            Engine::Unknown | Engine::Empty | Engine::Ended | Engine::Following(_) => None,
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
        self.step(Input::Room(self.setup.room));
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
