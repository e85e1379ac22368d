//! What members say to each other, as JSON over the agents' HTTPS.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::election::member::{Member, Position, Text};
use crate::election::message::{Answer, Ask, Room};

/// POST [`Envelope`], answered 202 at once: the answer, if any, is a message the other way. 403 to
/// whom does not come from the instance it names; 409 when it is for another member than this one.
pub const ELECTION: &str = "/v1/election";
/// GET: [`Introduction`]. For members and the operator.
pub const MEMBER: &str = "/v1/member";

/// A message from one member to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who sends it: the name is that of the client's certificate.
    pub from: Member,
    /// For whom it is: not for the same instance with other data.
    pub to: Member,
    /// What it says.
    pub message: Message,
}

/// A question or an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
pub enum Message {
    /// A question.
    Ask(Ask),
    /// An answer.
    Answer(Answer),
}

impl Introduction {
    /// Of a member at an address, of which nothing else is known.
    pub(super) fn new(member: Member, address: IpAddr) -> Self {
        Self {
            member,
            zone: None,
            position: None,
            room: Room::default(),
            address: address.to_string(),
            peers: BTreeMap::new(),
        }
    }
}

/// Who an agent is, as a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Introduction {
    /// Instance and generation of its data.
    pub member: Member,
    /// Zone of its node, as far as it knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Text>,
    /// End of its own history, when it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Room on its volume, as far as it knows.
    #[serde(default)]
    pub room: Room,
    /// Address of its pod.
    pub address: String,
    /// Where it met the other instances last: members find each other without DNS as well.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub peers: BTreeMap<String, IpAddr>,
}
