//! Whether clients are let in; values only.

use crate::election::member::Ballot;
use crate::election::message::Wanted;

/// Whether clients are let in. `open_for`: the ballot for which the engine was promoted and, since its last start, has let them in.
///
/// An open door stays open for as long as its ballot is wanted: the election may not have seen the engine yet, as when the
/// agent was just started beside it, and clients shall not notice.
pub fn is_open(wanted: &Wanted, open_for: Option<&Ballot>) -> bool {
    match wanted {
        Wanted::Primary { ballot, open, .. } => *open || open_for == Some(ballot),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::member::{Epoch, Holder, Member};

    fn ballot(epoch: u64) -> Ballot {
        Ballot {
            epoch: Epoch(epoch),
            holder: Holder {
                member: Member::new("db-1", "g"),
                pod: "p".into(),
                nonce: "n".into(),
            },
        }
    }

    #[test]
    fn a_door_is_opened_by_the_election_and_not_shut_by_its_doubts() {
        let wanted = |open| Wanted::Primary {
            ballot: ballot(2),
            timeline: 2,
            group: None,
            open,
        };
        let (two, one) = (ballot(2), ballot(1));
        assert!(is_open(&wanted(true), None));
        assert!(is_open(&wanted(false), Some(&two)));
        assert!(!is_open(&wanted(false), None));
        // It was open in a term before.
        assert!(!is_open(&wanted(false), Some(&one)));
        assert!(!is_open(&Wanted::Detached, Some(&two)));
    }
}
