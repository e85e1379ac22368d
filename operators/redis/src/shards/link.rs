//! Asks members what they see, and tells them what to do, over TLS as the user [`CLUSTER_ROLE`]. I/O; decides nothing.

mod moves;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use mainstay_shared::access::Password;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::{sleep, timeout};

use super::marks;
use super::migrate::BATCH;
use super::plan::{Act, Failover};
use super::slots::SlotSet;
use super::topology::{Address, Bears, TopologyError, View};
use crate::agent::mark::LIBRARY;
use crate::agent::session::mark_in;
use crate::resp::{Connection, RespError, Value, Words, words};
use crate::settings::CLUSTER_ROLE;

/// Longest wait for a connection or for an answer.
const ANSWER: Duration = Duration::from_secs(3);
/// A replica has taken over within this time, or it did not.
const TAKEN_OVER: Duration = Duration::from_secs(10);
/// Commands that are sent at once.
const SOME: usize = 1_000;
/// Pause between looks meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// A member was not asked, or did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Over the wire.
    #[error("{member}: {source}")]
    Resp {
        /// Whom.
        member: String,
        /// What.
        source: RespError,
    },
    /// It takes too long.
    #[error("{0} does not answer in time")]
    Mute(String),
    /// What it says is no topology.
    #[error("{member}: {source}")]
    Topology {
        /// Who.
        member: String,
        /// What.
        source: TopologyError,
    },
    /// It is called for, and was not found before.
    #[error("{0} was not asked before")]
    Unknown(String),
    /// It is not as it was believed.
    #[error("{member}: {why}")]
    Otherwise {
        /// Who.
        member: String,
        /// A sentence.
        why: String,
    },
}

impl LinkError {
    /// Whether its address is there and nobody listens.
    pub fn nobody_listens(&self) -> bool {
        let refused = std::io::ErrorKind::ConnectionRefused;
        matches!(self, Self::Resp { source: RespError::Io(error), .. } if error.kind() == refused)
    }
}

/// As whom members are asked.
#[derive(Clone, Debug)]
pub struct Access {
    /// Verifies members by the set's authority.
    pub tls: Arc<ClientConfig>,
    /// Password of [`CLUSTER_ROLE`].
    pub password: Password,
}

/// Where a member is found.
#[derive(Clone, Debug)]
pub struct Place {
    /// The member's name.
    pub name: String,
    /// Its address.
    pub address: Address,
    /// As whom its certificate is verified.
    pub host: ServerName<'static>,
}

/// Connections to members.
#[derive(Debug)]
pub struct Links {
    access: Access,
    places: BTreeMap<String, Place>,
    open: BTreeMap<String, Connection>,
    /// What they said last.
    views: BTreeMap<String, View>,
    /// How many keys are moved at once.
    pace: u16,
}

impl Links {
    /// None yet.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            places: BTreeMap::new(),
            open: BTreeMap::new(),
            views: BTreeMap::new(),
            pace: BATCH,
        }
    }

    /// Whether they were made as this one.
    pub fn are_of(&self, access: &Access) -> bool {
        Arc::ptr_eq(&self.access.tls, &access.tls) && self.access.password == access.password
    }

    /// What each of these members says.
    pub async fn observe(&mut self, places: &[Place]) -> BTreeMap<String, Result<View, LinkError>> {
        let moved = |place: &Place| {
            self.places.get(&place.name).map(|p| &p.address) != Some(&place.address)
        };
        let stale: Vec<String> = places
            .iter()
            .filter(|p| moved(p))
            .map(|p| p.name.clone())
            .collect();
        self.open.retain(|name, _| !stale.contains(name));
        self.places = places.iter().map(|p| (p.name.clone(), p.clone())).collect();
        self.open.retain(|name, _| self.places.contains_key(name));
        let nothing = BTreeSet::new();
        let mut found = self.look(&nothing).await;
        let open: BTreeSet<u16> = found.values().flatten().flat_map(View::open).collect();
        if !open.is_empty() {
            found = self.look(&open).await;
        }
        self.views = found
            .iter()
            .filter_map(|(name, view)| Some((name.clone(), view.as_ref().ok()?.clone())))
            .collect();
        found
    }

    async fn look(&mut self, open: &BTreeSet<u16>) -> BTreeMap<String, Result<View, LinkError>> {
        let asked = self.places.values().map(|place| {
            let connection = self.open.remove(&place.name);
            let access = self.access.clone();
            async move {
                let asked = ask(&access, place, connection, open).await;
                (place.name.clone(), asked)
            }
        });
        let asked: Vec<_> = asked.collect();
        let mut found = BTreeMap::new();
        for (name, asked) in join_all(asked).await {
            let view = asked.map(|(connection, view)| {
                self.open.insert(name.clone(), connection);
                view
            });
            found.insert(name, view);
        }
        found
    }

    /// Does it, as far as it is told to engines. Says whether that is so: restarts and removals are of pods.
    ///
    /// It may be given up at any point; what is half done is found by the next look.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn carry_out(&mut self, act: &Act) -> Result<bool, LinkError> {
        match act {
            Act::Meet { at, address } => {
                let (port, bus) = (address.port.to_string(), address.bus.to_string());
                let meet = words(["CLUSTER", "MEET", &address.host, &port, &bus]);
                self.tell(at, meet).await?;
            }
            Act::Forget { at, node } => {
                let told = self
                    .tell(at, words(["CLUSTER", "FORGET", node.as_str()]))
                    .await;
                if !forgotten(&told) {
                    told?;
                }
            }
            Act::Claim { at, slots } => {
                let mut claim = words(["CLUSTER", "ADDSLOTSRANGE"]);
                for range in slots {
                    claim.extend([range.first.to_string(), range.last.to_string()]);
                }
                self.tell(at, claim).await?;
            }
            Act::Mark { at, set } => {
                let code = marks::of(set.clone()).code();
                self.tell(at, words(["FUNCTION", "LOAD", "REPLACE", &code]))
                    .await?;
            }
            Act::Replicate { at, primary } => {
                self.tell(at, words(["CLUSTER", "REPLICATE", primary.as_str()]))
                    .await?;
            }
            Act::Stable { at, slot } => {
                let slot = slot.to_string();
                self.tell(at, words(["CLUSTER", "SETSLOT", &slot, "STABLE"]))
                    .await?;
            }
            Act::Failover { at, how } => self.fail_over(at, *how).await?,
            Act::Moves(moves) => self.move_all(moves).await?,
            Act::Restart { .. } | Act::Remove { .. } => return Ok(false),
        }
        Ok(true)
    }

    async fn fail_over(&mut self, at: &str, how: Failover) -> Result<(), LinkError> {
        let command = match how {
            Failover::Planned => words(["CLUSTER", "FAILOVER"]),
            Failover::Yielded | Failover::Force => words(["CLUSTER", "FAILOVER", "FORCE"]),
            Failover::Takeover => words(["CLUSTER", "FAILOVER", "TAKEOVER"]),
        };
        let refused = self.tell(at, command).await.err();
        let told = Instant::now();
        while told.elapsed() < TAKEN_OVER {
            // It may be one already: its primary's agent asks for it too, when its container ends.
            if is_primary(&self.tell(at, words(["ROLE"])).await?) {
                return Ok(());
            }
            if let Some(refused) = refused {
                return Err(refused);
            }
            sleep(LOOK).await;
        }
        Err(LinkError::Otherwise {
            member: at.to_owned(),
            why: "it did not take over from its primary in time".to_owned(),
        })
    }

    async fn tell(&mut self, at: &str, command: Words) -> Result<Value, LinkError> {
        let answers = self.ask(at, &[command], ANSWER).await?;
        let answer = answers.into_iter().next().ok_or_else(|| mute(at))?;
        answer.accepted().map_err(|source| wire(at, source))
    }

    /// A connection that fails is not used again.
    async fn ask<W: AsRef<[u8]>>(
        &mut self,
        at: &str,
        commands: &[Vec<W>],
        within: Duration,
    ) -> Result<Vec<Value>, LinkError> {
        let mut connection = self.take(at).await?;
        let answers = timeout(within, connection.pipeline(commands)).await;
        let answers = answers
            .map_err(|_| mute(at))?
            .map_err(|source| wire(at, source))?;
        self.open.insert(at.to_owned(), connection);
        Ok(answers)
    }

    async fn take(&mut self, at: &str) -> Result<Connection, LinkError> {
        if let Some(connection) = self.open.remove(at) {
            return Ok(connection);
        }
        let place = self.places.get(at);
        let place = place.ok_or_else(|| LinkError::Unknown(at.to_owned()))?;
        connect(&self.access, place).await
    }
}

async fn connect(access: &Access, place: &Place) -> Result<Connection, LinkError> {
    let failed = |source| wire(&place.name, source);
    let connected = async {
        let ip: Result<IpAddr, _> = place.address.host.parse();
        let ip = ip.map_err(|_| RespError::Protocol("its address is none"))?;
        let address = SocketAddr::new(ip, place.address.port);
        let mut connection =
            Connection::tls(address, place.host.clone(), Arc::clone(&access.tls)).await?;
        connection
            .login(CLUSTER_ROLE, access.password.expose())
            .await?;
        Ok(connection)
    };
    let connected = timeout(ANSWER, connected).await;
    connected.map_err(|_| mute(&place.name))?.map_err(failed)
}

/// Over the connection that is there, or over another: it may have ended since.
async fn ask(
    access: &Access,
    place: &Place,
    connection: Option<Connection>,
    open: &BTreeSet<u16>,
) -> Result<(Connection, View), LinkError> {
    if let Some(mut connection) = connection
        && let Ok(view) = view(&mut connection, place, open).await
    {
        return Ok((connection, view));
    }
    let mut connection = connect(access, place).await?;
    let view = view(&mut connection, place, open).await?;
    Ok((connection, view))
}

async fn view(
    connection: &mut Connection,
    place: &Place,
    open: &BTreeSet<u16>,
) -> Result<View, LinkError> {
    let member = &place.name;
    let mut commands = vec![
        words(["CLUSTER", "NODES"]),
        words(["INFO"]),
        words(["FUNCTION", "LIST", "LIBRARYNAME", LIBRARY, "WITHCODE"]),
    ];
    commands.extend(
        open.iter()
            .map(|slot| words(["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()])),
    );
    let answers = timeout(ANSWER, connection.pipeline(&commands)).await;
    let answers = answers
        .map_err(|_| mute(member))?
        .map_err(|source| wire(member, source))?;
    let mut answers = answers.into_iter();
    let mut text = || -> Result<String, LinkError> {
        let answer = answers.next().unwrap_or(Value::Null).accepted();
        let answer = answer.map_err(|source| wire(member, source))?;
        Ok(answer.text().unwrap_or_default())
    };
    let (nodes, info) = (text()?, text()?);
    let mut view = View::read(&nodes, &info).map_err(|source| LinkError::Topology {
        member: member.clone(),
        source,
    })?;
    // Who may not ask that yet, for its rules are from before, does not know it.
    view.bears = match answers.next() {
        Some(Value::Error(_)) | None => Bears::Unknown,
        Some(library) => mark_in(&library).map_or(Bears::Nothing, |mark| Bears::Set(mark.set)),
    };
    let counts = open.iter().zip(answers);
    view.counted = counts
        .filter_map(|(slot, count)| Some((*slot, u64::try_from(count.integer()?).ok()?)))
        .collect();
    let primary = view.follows().and_then(|primary| view.nodes.get(primary));
    if let Some(primary) = primary.filter(|_| !view.synced && view.keys > 0) {
        view.foreign = !has_any(connection, place, &primary.slots).await?;
    }
    Ok(view)
}

/// Whether it has a key of one of these slots, or there is none.
async fn has_any(
    connection: &mut Connection,
    place: &Place,
    slots: &SlotSet,
) -> Result<bool, LinkError> {
    let member = &place.name;
    let count = |slot: u16| words(["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]);
    let commands: Vec<_> = slots.iter().map(count).collect();
    for some in commands.chunks(SOME) {
        let answers = timeout(ANSWER, connection.pipeline(some)).await;
        let answers = answers
            .map_err(|_| mute(member))?
            .map_err(|source| wire(member, source))?;
        if answers.iter().any(|count| count.integer() > Some(0)) {
            return Ok(true);
        }
    }
    Ok(commands.is_empty())
}

/// `ROLE`
fn is_primary(role: &Value) -> bool {
    let first = role.items().first().and_then(Value::text);
    first.as_deref() == Some("master")
}

/// Whether it is refused because the node is forgotten already.
fn forgotten(told: &Result<Value, LinkError>) -> bool {
    matches!(told, Err(LinkError::Resp { source: RespError::Refused(why), .. }) if why.contains("Unknown node"))
}

fn mute(member: &str) -> LinkError {
    LinkError::Mute(member.to_owned())
}

fn wire(member: &str, source: RespError) -> LinkError {
    LinkError::Resp {
        member: member.to_owned(),
        source,
    }
}
