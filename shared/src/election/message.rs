//! What goes between agents, to and from the machine, as values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::charter::{Charter, Durable, Stamp};
use super::group::Group;
use super::member::{Ballot, Epoch, Holder, Member, Moment, Position, Text};
use super::policy::Policy;

/// A question to a peer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ask {
    /// Serve nobody below this ballot; where does your history end?
    Promise(Ballot),
    /// Keep this charter durably.
    Adopt(Charter),
    /// The API server is away: neither stand nor vote for a lease's duration.
    Hold {
        /// Whose term goes on.
        ballot: Ballot,
        /// The asker's clock before sending; sent back as it is.
        sent: Moment,
    },
    /// Your history goes further than the asker's: stand.
    Stand(Ballot),
    /// The asker led under this ballot, has stopped, and will not go on: whoever it names, or anybody,
    /// need not wait for the Lease, which it may not be able to let go.
    Released {
        /// What it led under.
        ballot: Ballot,
        /// Who shall come next.
        successor: Option<Member>,
    },
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Answer {
    /// It is durable, nothing is received any more, and this is what there is.
    Promised {
        /// The ballot.
        ballot: Ballot,
        /// End of the own history.
        position: Position,
        /// Highest timeline seen.
        timeline: u64,
        /// Room on its volume.
        #[serde(default)]
        room: Room,
        /// The latest charter known.
        charter: Option<Charter>,
    },
    /// No.
    Refused {
        /// The ballot asked for.
        ballot: Ballot,
        /// Highest epoch promised or heard of.
        epoch: Epoch,
        /// Why.
        why: Refusal,
        /// The latest charter known.
        charter: Option<Charter>,
    },
    /// The charter of that stamp is durable.
    Adopted(Ballot, Stamp),
    /// It holds still, for that ballot; `sent` as in the question.
    Holding {
        /// The ballot.
        ballot: Ballot,
        /// As in the question.
        sent: Moment,
    },
}

/// Room on a volume for what a primary writes.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub enum Room {
    /// A promotion would fail.
    Short,
    /// A promotion fits; or nothing is known.
    #[default]
    Enough,
    /// So much that a primary that is short does well to hand over to this one. Where all have the same data
    /// and nothing else all get short at the same time, and handing over would only cost room.
    Ample,
}

impl Room {
    /// Whether a promotion fits.
    pub fn fits(self) -> bool {
        self > Self::Short
    }
}

/// Why a question was answered with no.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    thiserror::Error,
)]
pub enum Refusal {
    /// It has promised a later ballot, or the same epoch to another.
    #[error("it has promised a later ballot")]
    Promised,
    /// The holder still renews.
    #[error("it sees the Lease renewed")]
    LeaseLives,
    /// It has promised the primary to hold still while the API server is away.
    #[error("it holds still for the primary while the API server is away")]
    Holding,
    /// It may have forgotten a fail-safe promise.
    #[error("its agent has just started")]
    JustStarted,
    /// It is primary itself.
    #[error("it is primary")]
    Primary,
}

/// The Lease, as read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    /// Resource version, with the uid of the object.
    pub version: Text,
    /// Who holds it; none when it was released or never held.
    pub holder: Option<Holder>,
    /// What it says; none before the first acquisition.
    pub charter: Option<Charter>,
    /// The primary's position at the last renewal.
    pub published: Position,
    /// Counts the writes of one holder, so that a write whose answer was lost is recognised.
    pub mark: u64,
    /// The Lease's own count of acquisitions. Nothing depends on it.
    pub transitions: u64,
}

impl Seen {
    /// Whether the holder, or whoever acquired or released, has written nothing since `self`.
    ///
    /// Others write notes into the Lease, which change its version and say nothing of the holder: if
    /// they counted as a renewal, members that tell a holder that they miss it would keep a dead one
    /// alive. A holder's renewal always has another mark.
    pub fn says_the_same(&self, later: &Self) -> bool {
        let version = later.version.clone();
        *later
            == Self {
                version,
                ..self.clone()
            }
    }
}

/// What is known of the Lease.
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Sight {
    /// The API server says that there is none.
    Missing,
    /// It looks like this.
    Seen(Seen),
}

/// On which condition a write of the Lease has effect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Precondition {
    /// That version is still there (replace with uid and resource version).
    Version(Text),
    /// There is none (create).
    Missing,
}

/// A write of the Lease. Everything in it is written at once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Write {
    /// When it may have effect.
    pub precondition: Precondition,
    /// Who holds it afterwards; none to release it.
    pub holder: Option<Holder>,
    /// What it says.
    pub charter: Charter,
    /// The own position.
    pub published: Position,
    /// See [`Seen::mark`].
    pub mark: u64,
    /// See [`Seen::transitions`].
    pub transitions: u64,
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// It had effect; the version that it made.
    Done(Text),
    /// It had none: the Lease was not as expected.
    Conflict,
    /// No answer, or an error that leaves it open.
    Unanswered,
}

/// What is seen of the local engine.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// Not known, on its way, or not answering.
    Unknown,
    /// There is no data.
    Empty,
    /// It receives from nobody, is told so on disk, accepts no write, and its log was read to the
    /// end. Also a stopped engine whose end of log is known.
    Detached {
        /// End of its history.
        position: Position,
        /// Highest timeline seen in it.
        timeline: u64,
    },
    /// It led in the term that is held, or was elected to, and has ended: no process of it is left, none will be
    /// promoted in this term, and what it had in memory is lost, so that it cannot say what it has. An
    /// engine that keeps what it acknowledged is `Unknown` instead, and goes on in its term.
    ///
    /// Of a process that holds nothing: so has whatever earlier processes of its pod led with.
    Ended,
    /// It receives, or may receive, from the holder of that ballot.
    Following(Ballot),
    /// It was promoted under that ballot.
    Primary(Primary),
}

/// An engine that was promoted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Primary {
    /// Under which ballot. A driver that cannot tell says the ballot that it promoted for last.
    pub ballot: Ballot,
    /// Where its recovery ended: what a standby must have flushed to have everything older.
    pub recovered: u64,
    /// Where its log ends now.
    pub lsn: u64,
    /// The group for which every session waits, once *all* show it. Unknown between.
    pub in_force: Option<Group>,
    /// End of the log when that group came into force.
    pub since: u64,
    /// Members that stream now under this ballot, with what they have flushed.
    pub flushed: BTreeMap<Member, u64>,
    /// When the last local health check that passed began: a local read and a small local write.
    pub healthy_at: Moment,
}

/// A member as the driver knows it: it is in the set, reachable or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Its zone, if nodes have one.
    pub zone: Option<Text>,
    /// Whether it says, through Lease or pod annotations, that it reaches the other voters.
    pub connected: bool,
    /// Room on its volume, as it said last.
    pub room: Room,
}

/// What a person or the operator asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Hand over to that member, or to the best one. Also for a container that is being stopped.
    HandOver(Option<Member>),
}

/// What the machine is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Time has passed. At least every [`super::policy::Timing::renew`] / 4.
    Tick,
    /// The Lease was seen, by watch or read. Said for each look that was answered.
    Lease(Sight),
    /// What came of [`Effect::WriteLease`].
    Written(Written),
    /// What came of [`Effect::Persist`]: it is on disk.
    Persisted(Durable),
    /// The local engine, whenever something of it has changed.
    Engine(Engine),
    /// Room on this instance's volume.
    Room(Room),
    /// A peer asks; its certificate says who it is.
    Asked(Member, Ask),
    /// A peer answered.
    Answered(Member, Answer),
    /// All members of the set, this one too, that exist or existed last under their name.
    Peers(BTreeMap<Member, Peer>),
    /// What is asked of the set has changed.
    Policy(Policy),
    /// Somebody asks for something.
    Order(Order),
    /// This member may make the set's first data: the create-only record names it, and the set
    /// never had an identifier.
    MayFound(bool),
}

/// What the machine wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Kill every process of the engine now. Never waits for anything else, above all not for the
    /// volume.
    HardStop,
    /// Make this durable, then say [`Input::Persisted`]. If it fails, keep trying or end.
    Persist(Durable),
    /// Write the Lease and say what came of it with [`Input::Written`]. One is under way at a time;
    /// each is given up after [`super::policy::Timing::renew`].
    WriteLease(Box<Write>),
    /// Read the Lease past any cache, and say [`Input::Lease`].
    ReadLease,
    /// Ask a peer. No answer is no answer: nothing has to be said then.
    Ask(Member, Ask),
    /// Answer a peer's question.
    Answer(Member, Answer),
}

/// How the engine should be. The driver brings it there, however long that takes, and says what it
/// sees with [`Input::Engine`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// Leave it as it is: too little is known.
    Unchanged,
    /// Make the set's first data.
    Initialise,
    /// Receive from nobody and accept no writes. A primary is stopped hard first; a standby loses
    /// its connection settings on disk, and the receiver is confirmed gone.
    Detached,
    /// Stop in order: detach who lags, checkpoint, stop, so that who streams has everything.
    Stopped,
    /// Receive from that holder; rewind or copy anew if the histories have parted.
    Follow(Ballot),
    /// Promote, or stay promoted, on the claimed timeline.
    Primary {
        /// For this ballot.
        ballot: Ballot,
        /// On this timeline, which nobody else uses.
        timeline: u64,
        /// Commits wait for this group. Without one nobody is let in.
        group: Option<Group>,
        /// Whether clients are let in: the endpoints are written only then.
        open: bool,
    },
}
