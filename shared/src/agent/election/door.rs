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
    /// Who called from where.
    pub(super) callers: mpsc::Sender<(String, IpAddr)>,
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

    /// An instance with that certificate calls from there: so that is where it is, whether or not
    /// its name leads there yet.
    pub(crate) fn called(&self, certificate: &str, source: IpAddr) {
        if self.knows(certificate) {
            // Another call will come.
            let _ = self.callers.try_send((certificate.to_owned(), source));
        }
    }

    /// Whether an instance of that name belongs to the set.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.names.borrow().contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::member::{Ballot, Epoch, Holder};
    use crate::election::message::Ask;

    use super::super::wire::Message;

    #[test]
    fn only_the_sender_itself_is_heard_and_only_by_whom_it_means() {
        let (me, peer) = (Member::new("db-1", "a"), Member::new("db-2", "b"));
        let (messages, mut arrived) = mpsc::channel(1);
        let introduction = Introduction::new(me.clone(), [10, 0, 0, 1].into());
        let (callers, mut called) = mpsc::channel(1);
        let door = Door {
            messages,
            callers,
            introduction: watch::Sender::new(introduction).subscribe(),
            names: watch::Sender::new(["db-2".to_owned()].into()).subscribe(),
        };
        let envelope = |to: &Member| Envelope {
            from: peer.clone(),
            to: to.clone(),
            message: Message::Ask(Ask::Stand(Ballot {
                epoch: Epoch(1),
                holder: Holder {
                    member: peer.clone(),
                    pod: "p".into(),
                    nonce: "n".into(),
                },
            })),
        };
        let take = |certificate, to| door.take(certificate, [10, 0, 0, 2].into(), envelope(to));
        assert!(matches!(take("db-3", &me), Err(Refusal::NotYou { .. })));
        let before = Member::new("db-1", "before");
        assert_eq!(take("db-2", &before), Err(Refusal::NotMe(me.clone())));
        assert_eq!(take("db-2", &me), Ok(()));
        assert_eq!(take("db-2", &me), Err(Refusal::Full), "it waits for nobody");
        assert_eq!(arrived.try_recv().unwrap().0, envelope(&me));
        assert!(door.knows("db-2") && !door.knows("db-3"));
        door.called("db-3", [10, 0, 0, 3].into());
        door.called("db-2", [10, 0, 0, 2].into());
        let first = called.try_recv().unwrap();
        assert_eq!(first, ("db-2".to_owned(), [10, 0, 0, 2].into()));
    }
}
