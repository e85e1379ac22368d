//! What the agent's server hands to the driver, and tells others of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use tokio::sync::{mpsc, watch};

use super::wire::{Envelope, Introduction};
use crate::election::member::Member;

/// Where peers talk to the driver.
#[derive(Clone, Debug)]
pub struct Door {
    /// Messages, with the address they came from.
    pub(super) messages: mpsc::Sender<(Envelope, IpAddr)>,
    /// Who this is.
    pub(crate) introduction: watch::Receiver<Introduction>,
    /// Names of the set's instances.
    pub(super) names: watch::Receiver<BTreeSet<String>>,
}

/// Why a message is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The certificate is of somebody else.
    #[error("the message is from {from}, the certificate is that of {certificate}")]
    NotYou {
        /// Who it says it is from.
        from: Member,
        /// Common name of the certificate.
        certificate: String,
    },
    /// It is for somebody else.
    #[error("this is {0}")]
    NotMe(Member),
    /// More messages than the driver takes.
    #[error("too many messages: send it again")]
    Full,
}

impl Door {
    /// Take a message from a caller whose certificate has that common name. It waits for nothing.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub(crate) fn take(
        &self,
        certificate: &str,
        source: IpAddr,
        envelope: Envelope,
    ) -> Result<(), Refusal> {
        if envelope.from.name.as_str() != certificate {
            return Err(Refusal::NotYou {
                from: envelope.from,
                certificate: certificate.to_owned(),
            });
        }
        let me = self.introduction.borrow().member.clone();
        if envelope.to != me {
            return Err(Refusal::NotMe(me));
        }
        self.messages
            .try_send((envelope, source))
            .map_err(|_| Refusal::Full)
    }

    /// Whether an instance of that name belongs to the set.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.borrow().contains(name)
    }
}
