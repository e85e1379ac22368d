//! What goes between the loop and the API server.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::lease::{self, Own};
use super::super::leases::{self, Outcome};
use super::{Inbox, Loop, Returned};
use crate::agent::clock::boottime;
use crate::agent::lease::follow::{Seen, follow};
use crate::agent::lease::point::{Pointer, Primary};
use crate::agent::tell::set;
use crate::election::member::Text;
use crate::election::message::{Input, Sight, Write, Written};

/// Pause before another try to make a client of the API server.
const AGAIN: Duration = Duration::from_secs(1);
/// Pause between two writes of which the first lost against another's.
const CONFLICT: Duration = Duration::from_millis(20);
/// Pause before endpoints that could not be written are tried again.
const POINT_AGAIN: Duration = Duration::from_secs(2);

impl Loop {
    pub(super) fn make_client(&self, after: Duration) {
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

    pub(super) fn api(&self) -> Option<Api<Lease>> {
        let client = self.client.clone()?;
        Some(Api::namespaced(client, &self.config.place.namespace))
    }

    pub(super) fn begin_talking(&mut self, client: Client, inbox: &mut Inbox) {
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
        let here = self.told.leads_here.clone();
        tokio::spawn(point(pointer, self.pointed.subscribe(), here));
        self.client = Some(client);
        self.step(Input::Tick);
    }

    pub(super) fn read(&mut self) {
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

    pub(super) fn write(&mut self, write: Write) {
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
            let pause = match &outcome {
                Outcome::Done(_) => Duration::ZERO,
                Outcome::Conflict(Some(lease)) if lease::read(lease).is_ok() => CONFLICT,
                _ => timing.renew / 4,
            };
            if !pause.is_zero() {
                sleep_until(began + pause).await;
            }
            let _ = results.send(Returned::Wrote(outcome));
        });
    }

    pub(super) fn take(&mut self, returned: Returned, inbox: &mut Inbox) {
        match returned {
            Returned::Client(client) => self.begin_talking(client, inbox),
            Returned::NoClient(why) => {
                self.reached(false);
                self.note(Some(why));
                self.make_client(AGAIN);
            }
            Returned::Looked { began, lease } => {
                self.reading = false;
                self.reached(lease.is_ok());
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

    /// The API server has answered, or not.
    fn reached(&mut self, answered: bool) {
        let now = boottime();
        if answered {
            self.reach.heard(now);
        } else {
            self.reach.missed(now);
        }
        set(&self.told.reach, self.reach.since());
    }

    fn wrote(&mut self, outcome: Outcome) {
        self.reached(!matches!(outcome, Outcome::Unanswered(_)));
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
    pub(super) fn watched(&mut self, inbox: &mut Inbox) {
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
        if look.identifier.is_some() {
            set(&self.told.set, look.identifier.clone());
        }
        self.versions += 1;
        self.words.hear(&look.stranded);
        self.lease = Some(lease);
        self.look = Some(look);
        Ok(version)
    }

    pub(super) fn may_found(&mut self) {
        let instance = &self.config.place.instance;
        let may = self.look.as_ref().is_some_and(|l| l.may_found(instance));
        if may != self.may_found {
            self.may_found = may;
            self.step(Input::MayFound(may));
        }
    }

    pub(super) fn note(&mut self, trouble: Option<String>) {
        if let Some(why) = trouble.as_ref().filter(|_| trouble != self.trouble) {
            tracing::warn!(%why, "the Lease");
        }
        self.trouble = trouble;
    }
}

/// Have the endpoints lead here while there is an epoch, and tell whether they do: afterwards until
/// they lead elsewhere.
async fn point(
    mut pointer: Pointer,
    mut epoch: watch::Receiver<Option<u64>>,
    here: watch::Sender<bool>,
) {
    loop {
        let now = *epoch.borrow_and_update();
        if let Some(epoch) = now {
            pointer.point(epoch).await;
        }
        set(&here, pointer.leads_here());
        if now.is_none() && !pointer.leads_here() {
            pointer.rest();
        }
        tokio::select! {
            changed = epoch.changed() => if changed.is_err() { return },
            () = pointer.changed() => {}
            () = sleep(POINT_AGAIN), if now.is_some() => {}
        }
    }
}
