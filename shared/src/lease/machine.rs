//! The rule of holding a Lease, as a function of what was seen and of the time. It does no I/O:
//! it says what to do next, and is told what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::Timing;
use super::clock::Moment;

/// A Lease as read from, or written to, the API server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen(pub Lease);

impl Seen {
    /// Who holds it, if anybody does.
    pub fn holder(&self) -> Option<&str> {
        self.spec()?
            .holder_identity
            .as_deref()
            .filter(|holder| !holder.is_empty())
    }

    /// Whether it may be taken at once: nobody holds it, nor may anybody still believe to.
    pub fn is_free(&self) -> bool {
        self.holder().is_none() && self.spec().is_none_or(|spec| spec.renew_time.is_none())
    }

    /// How often it changed hands; the epoch of its holder.
    pub fn transitions(&self) -> i32 {
        self.spec()
            .and_then(|spec| spec.lease_transitions)
            .unwrap_or_default()
    }

    /// The duration that its holder counts on.
    pub fn duration(&self) -> Duration {
        let seconds = self
            .spec()
            .and_then(|spec| spec.lease_duration_seconds)
            .unwrap_or_default();
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }

    /// Its annotations.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.0.metadata.annotations.clone().unwrap_or_default()
    }

    fn spec(&self) -> Option<&LeaseSpec> {
        self.0.spec.as_ref()
    }

    /// Whether both are the same write of the same object.
    fn is_same(&self, other: &Self) -> bool {
        let of = |seen: &Self| {
            (
                seen.0.metadata.uid.clone(),
                seen.0.metadata.resource_version.clone(),
            )
        };
        of(self) == of(other)
    }
}

/// What came of the last [`Action`].
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // one exists at a time
pub enum Input {
    /// The time to sleep is over (or one begins, or a watch woke us).
    Woke,
    /// It was read; none if it does not exist.
    Read(Option<Seen>),
    /// The write had effect, and this is what stands.
    Written(Seen),
    /// The write had no effect: the Lease is not what it was (409), or is gone.
    Conflict,
    /// No answer, or an error that leaves open whether a write had effect.
    Unanswered,
}

/// What to do next. Each request must be given up after [`Machine::budget`].
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the Lease, past any cache.
    Read,
    /// Replace it, with the resource version and uid in the write; or make it, if there are none.
    Write(Box<Write>),
    /// Do nothing for this long; a change of the Lease that a watch saw may wake earlier.
    Sleep(Duration),
}

/// Why a Lease is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To hold it from now on, under a new epoch.
    Acquire,
    /// To go on holding it.
    Renew,
    /// To let it go: no holder and no time, so that the next one takes it at once.
    Release,
    /// To make it, with a time but without holder: everybody, its maker too, waits a full duration
    /// before taking it, since the holder of a deleted one may not know yet.
    Make,
}

/// A write of the Lease.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    /// What it replaces; none to make it.
    pub previous: Option<Seen>,
    /// Why.
    pub purpose: Purpose,
    /// Epoch that it says.
    pub epoch: i32,
    holder: String,
    duration: Duration,
}

impl Write {
    /// The object to send. Labels, annotations and the rest of what it replaces are kept; `extra`
    /// annotations are added in the same write.
    pub fn object(
        &self,
        namespace: &str,
        name: &str,
        extra: BTreeMap<String, String>,
        wall: Timestamp,
    ) -> Lease {
        let mut lease = self.previous.clone().unwrap_or_default().0;
        let ObjectMeta {
            resource_version,
            uid,
            labels,
            annotations,
            owner_references,
            finalizers,
            ..
        } = lease.metadata;
        let mut annotations = annotations.unwrap_or_default();
        annotations.extend(extra);
        lease.metadata = ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            // The uid makes a replace of a deleted Lease fail, where it would make a new one.
            uid,
            resource_version,
            labels,
            annotations: (!annotations.is_empty()).then_some(annotations),
            owner_references,
            finalizers,
            ..ObjectMeta::default()
        };
        let spec = lease.spec.get_or_insert_default();
        if self.purpose == Purpose::Acquire {
            spec.acquire_time = Some(MicroTime(wall));
        }
        spec.renew_time = (self.purpose != Purpose::Release).then_some(MicroTime(wall));
        spec.holder_identity = match self.purpose {
            Purpose::Acquire | Purpose::Renew => Some(self.holder.clone()),
            Purpose::Release | Purpose::Make => None,
        };
        spec.lease_duration_seconds = i32::try_from(self.duration.as_secs()).ok();
        spec.lease_transitions = Some(self.epoch);
        lease
    }
}

/// That we hold it, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Epoch of this hold: grows with each acquisition by anybody.
    pub epoch: i32,
    /// From this moment on nothing may be done in its name.
    pub until: Moment,
}

/// What stood last.
#[derive(Clone, Debug)]
struct Known {
    /// None: it did not exist.
    seen: Option<Seen>,
    /// Since when we saw it so.
    since: Moment,
    /// Whether it is a write by which we held it: then nobody else has held it since.
    mine: bool,
}

/// One candidate's or holder's state.
#[derive(Clone, Debug)]
pub struct Machine {
    identity: String,
    timing: Timing,
    /// Whether it may make a Lease that does not exist.
    create: bool,
    known: Option<Known>,
    /// Uid of the last Lease that was seen to exist.
    uid: Option<String>,
    /// Highest epoch ever seen, so that a Lease made anew goes on counting.
    highest: i32,
    held: Option<Held>,
    /// When the write under way, or last made, was sent, and whether it makes the Lease.
    sent: (Moment, bool),
    /// When the first write was sent of those that may have had effect without our knowing.
    doubtful: Option<Moment>,
}

impl Machine {
    /// A candidate. `identity` must be unique to this process, as it tells own writes from others';
    /// `create` says whether a missing Lease is made.
    pub fn new(identity: impl Into<String>, timing: Timing, create: bool) -> Self {
        Self {
            identity: identity.into(),
            timing,
            create,
            known: None,
            uid: None,
            highest: 0,
            held: None,
            sent: (Moment::ZERO, false),
            doubtful: None,
        }
    }

    /// Whether it is held now.
    pub fn held(&self, now: Moment) -> Option<Held> {
        self.held.filter(|held| now < held.until)
    }

    /// What stood when the Lease was last read or written; none if it did not exist or is not known.
    pub fn last_seen(&self) -> Option<&Seen> {
        self.known.as_ref()?.seen.as_ref()
    }

    /// How long a request sent now may take: half of what is left, so that a request that hangs
    /// leaves time for another.
    pub fn budget(&self, now: Moment) -> Duration {
        let left = self
            .held(now)
            .map_or(self.timing.deadline, |held| held.until.saturating_sub(now));
        (left / 2).max(Duration::from_millis(250)).min(left)
    }

    /// What to do next, given what came of the last action.
    ///
    /// A [`Action::Write`] must be sent after this call, not before: its time counts from `now`.
    pub fn step(&mut self, input: Input, now: Moment) -> Action {
        match input {
            Input::Woke => self.woke(now),
            Input::Read(None) => self.absent(now),
            Input::Read(Some(seen)) => self.present(seen, now),
            Input::Written(seen) => self.written(seen, now),
            Input::Conflict => Action::Read,
            Input::Unanswered => Action::Sleep(match self.held(now) {
                Some(held) => (self.timing.retry / 2).min(held.until.saturating_sub(now) / 4),
                None => self.timing.retry,
            }),
        }
    }

    /// The write that lets the Lease go, if it is held.
    pub fn release(&mut self, now: Moment) -> Option<Write> {
        let held = self.held(now)?;
        self.held = None;
        let previous = self.last_seen().cloned();
        previous.as_ref()?;
        Some(self.write(previous, Purpose::Release, held.epoch))
    }

    fn woke(&mut self, now: Moment) -> Action {
        match (self.held(now), self.last_seen()) {
            // One request a renewal: what we wrote last is what we replace.
            (Some(held), Some(seen)) if self.doubtful.is_none() => {
                let seen = seen.clone();
                self.send(Some(seen), Purpose::Renew, held.epoch, now)
            }
            _ => Action::Read,
        }
    }

    fn written(&mut self, seen: Seen, now: Moment) -> Action {
        // The answer names the write, so its own time counts, not that of earlier ones. A Lease
        // made anew goes on with a hold, but gives none.
        let (sent, made) = self.sent;
        let mine = self.is_ours(&seen) && (!made || self.held(now).is_some());
        self.held = mine.then(|| self.hold(&seen, sent));
        self.doubtful = None;
        self.know(Some(seen), mine, now);
        Action::Sleep(self.timing.retry)
    }

    fn absent(&mut self, now: Moment) -> Action {
        self.know(None, false, now);
        match self.held(now) {
            _ if !self.create => Action::Sleep(self.timing.retry),
            // Deleted under its live holder, who makes it again under the same epoch.
            Some(held) => self.send(None, Purpose::Renew, held.epoch, now),
            None => self.send(None, Purpose::Make, self.highest, now),
        }
    }

    fn present(&mut self, seen: Seen, now: Moment) -> Action {
        let ours = self.is_ours(&seen);
        let same_object = self.uid == seen.0.metadata.uid;
        // Only we write our name. If the content is not what we know of, then one of the writes that
        // were not answered had effect. Which one is open, so the earliest counts. A new object is
        // no such proof: a late request to make it does not say what stood in between.
        let news = self
            .last_seen()
            .is_none_or(|known| known.spec() != seen.spec());
        let confirmed = self.doubtful.filter(|_| ours && same_object && news);
        if let Some(sent) = confirmed {
            self.held = Some(self.hold(&seen, sent));
        } else if !ours && seen.holder().is_some() {
            self.held = None;
        }
        if confirmed.is_some() || !ours {
            self.doubtful = None;
        }
        let was_mine = self.known.as_ref().is_some_and(|known| known.mine) && same_object && !news;
        let mine = ours && (confirmed.is_some() || was_mine);
        let free = seen.is_free();
        self.know(Some(seen.clone()), mine, now);
        match self.held(now) {
            Some(held) if confirmed.is_some() && held.until > now + self.timing.retry => {
                Action::Sleep(self.timing.retry.min(held.until.saturating_sub(now) / 4))
            }
            Some(held) => self.send(Some(seen), Purpose::Renew, held.epoch, now),
            None if free || mine || self.has_expired(&seen, now) => self.send(
                Some(seen),
                Purpose::Acquire,
                self.highest.saturating_add(1),
                now,
            ),
            None => Action::Sleep(
                self.timing
                    .retry
                    .min(self.expiry(&seen, now).saturating_sub(now)),
            ),
        }
    }

    fn has_expired(&self, seen: &Seen, now: Moment) -> bool {
        self.expiry(seen, now) <= now
    }

    /// When it will have stayed as it is for a full duration.
    fn expiry(&self, seen: &Seen, now: Moment) -> Moment {
        let since = self.known.as_ref().map_or(now, |known| known.since);
        since + self.timing.duration.max(seen.duration())
    }

    fn send(
        &mut self,
        previous: Option<Seen>,
        purpose: Purpose,
        epoch: i32,
        now: Moment,
    ) -> Action {
        self.sent = (now, previous.is_none());
        if purpose != Purpose::Make {
            self.doubtful.get_or_insert(now);
        }
        Action::Write(Box::new(self.write(previous, purpose, epoch)))
    }

    fn write(&self, previous: Option<Seen>, purpose: Purpose, epoch: i32) -> Write {
        let holder = self.identity.clone();
        Write {
            previous,
            purpose,
            epoch,
            holder,
            duration: self.timing.duration,
        }
    }

    fn hold(&self, seen: &Seen, sent: Moment) -> Held {
        Held {
            epoch: seen.transitions(),
            until: sent + self.timing.deadline,
        }
    }

    fn is_ours(&self, seen: &Seen) -> bool {
        seen.holder() == Some(self.identity.as_str())
    }

    fn know(&mut self, seen: Option<Seen>, mine: bool, now: Moment) {
        let since = match (&self.known, &seen) {
            (
                Some(Known {
                    seen: Some(known),
                    since,
                    ..
                }),
                Some(seen),
            ) if known.is_same(seen) => *since,
            _ => now,
        };
        if let Some(seen) = &seen {
            self.uid.clone_from(&seen.0.metadata.uid);
            self.highest = self.highest.max(seen.transitions());
        }
        self.known = Some(Known { seen, since, mine });
    }
}
