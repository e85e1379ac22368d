//! Whether a primary can hand over to a given instance now, and what came of it. Values only.

use std::time::Duration;

use crate::election::charter::Charter;
use crate::election::member::{Ballot, Member};
use crate::election::message::Wanted;

/// Most of its history, in bytes, that whoever takes over may lack when it begins: while it catches up nobody
/// writes. A replica that lacks more is left behind when the engine is stopped.
pub const MOST_BEHIND: u64 = 16 << 20;
/// The election has taken the order up, or refused it, by then.
const HEARD: Duration = Duration::from_secs(2);
/// Somebody leads again by then.
const LED: Duration = Duration::from_secs(30);

/// The member that takes over as the instance `to`, or why it cannot, in a sentence. `seen` is where the primary's
/// history ends, and what those that receive it have; none when it does not answer.
///
/// # Errors
/// The sentence.
pub fn successor(
    to: &str,
    wanted: &Wanted,
    seen: Option<(u64, impl IntoIterator<Item = (Member, u64)>)>,
    charter: Option<&Charter>,
) -> Result<Member, String> {
    if !matches!(wanted, Wanted::Primary { open: true, .. }) {
        return Err("this instance does not take writes now".to_owned());
    }
    let Some((position, flushed)) = seen else {
        return Err("this instance does not answer now".to_owned());
    };
    let found = flushed.into_iter().find(|(m, _)| m.name.as_str() == to);
    let Some((member, flushed)) = found else {
        return Err(format!("{to} does not stream from the primary now"));
    };
    let behind = position.saturating_sub(flushed);
    if behind > MOST_BEHIND {
        return Err(format!(
            "{to} lacks {} MiB of the primary's log: writers would wait until it has them",
            behind >> 20
        ));
    }
    match charter {
        Some(charter) if charter.is_settled() && charter.may_name(&member) => Ok(member),
        Some(charter) if charter.is_settled() => Err(format!(
            "{to} is not among those for whom commits wait: it is new, or in the primary's zone"
        )),
        _ => Err("the change of those for whom commits wait is not finished".to_owned()),
    }
}

/// What is seen after the election was asked to hand over.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Under which ballot it was asked for.
    pub asked: &'a Ballot,
    /// How long ago.
    pub waited: Duration,
    /// How the engine should be.
    pub wanted: &'a Wanted,
    /// Who leads.
    pub leader: Option<&'a Ballot>,
    /// Name of this instance.
    pub me: &'a str,
    /// What the election waits for, in words.
    pub because: &'a str,
}

/// What came of it; none: nothing yet.
pub fn outcome(seen: &Seen<'_>) -> Option<Result<(), String>> {
    let later = seen.leader.filter(|l| l.epoch > seen.asked.epoch);
    let still = matches!(seen.wanted, Wanted::Primary { ballot, .. } if ballot == seen.asked);
    match later {
        Some(leader) if leader.holder.member.name.as_str() != seen.me => Some(Ok(())),
        Some(_) => Some(Err(
            "nobody took over in time, so this instance is primary again".to_owned(),
        )),
        None if still && seen.waited > HEARD => {
            Some(Err(format!("the election refused: {}", seen.because)))
        }
        None if seen.waited > LED => {
            Some(Err(format!("nobody has taken over yet: {}", seen.because)))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::election::group::Group;
    use crate::election::member::{Epoch, Holder};

    fn member(name: &str) -> Member {
        let (name, generation) = name.split_once('.').unwrap();
        Member::new(name, generation)
    }

    fn ballot() -> Ballot {
        Ballot {
            epoch: Epoch(3),
            holder: Holder {
                member: Member::new("db-1", "a"),
                pod: "p".into(),
                nonce: "n".into(),
            },
        }
    }

    fn wanted(open: bool) -> Wanted {
        Wanted::Primary {
            ballot: ballot(),
            timeline: 2,
            group: None,
            open,
        }
    }

    fn group(voter: &str) -> Group {
        Group {
            primary: Member::new("db-1", "a"),
            voters: [member(voter)].into(),
            acks: 1,
        }
    }

    fn charter(groups: Vec<Group>) -> Charter {
        Charter {
            ballot: ballot(),
            version: 1,
            groups,
            members: [Member::new("db-1", "a"), Member::new("db-2", "b")].into(),
            timeline: 2,
            fork: 0,
            successor: None,
            identifier: None,
        }
    }

    fn seen(flushed: u64) -> (u64, [(Member, u64); 2]) {
        let others = [(member("db-2.b"), flushed), (member("db-3.c"), 100 << 20)];
        (100 << 20, others)
    }

    #[test]
    fn who_streams_and_has_nearly_everything_takes_over() {
        let settled = charter(vec![group("db-2.b")]);
        let ask =
            |to, open, flushed| successor(to, &wanted(open), Some(seen(flushed)), Some(&settled));
        assert_eq!(ask("db-2", true, 99 << 20).unwrap().name.as_str(), "db-2");
        assert!(ask("db-2", false, 99 << 20).is_err(), "not open");
        assert!(ask("db-4", true, 0).unwrap_err().contains("stream"));
        assert!(ask("db-2", true, 10 << 20).unwrap_err().contains("90 MiB"));
        assert!(ask("db-3", true, 0).unwrap_err().contains("new"));
        let dark = None::<(u64, [(Member, u64); 2])>;
        assert!(successor("db-2", &wanted(true), dark, Some(&settled)).is_err());
    }

    #[test]
    fn nothing_is_handed_over_in_the_middle_of_a_change() {
        let changing = charter(vec![group("db-3.c"), group("db-2.b")]);
        let refused = successor(
            "db-2",
            &wanted(true),
            Some(seen(100 << 20)),
            Some(&changing),
        );
        assert!(refused.unwrap_err().contains("not finished"));
    }

    #[test]
    fn it_is_over_when_somebody_leads_or_nobody_will() {
        let other = Ballot {
            epoch: Epoch(4),
            holder: Holder {
                member: member("db-2.b"),
                ..ballot().holder
            },
        };
        let again = Ballot {
            epoch: Epoch(5),
            ..ballot()
        };
        let ask = |leader: Option<&Ballot>, wanted: &Wanted, waited| {
            let asked = ballot();
            outcome(&Seen {
                asked: &asked,
                waited: Duration::from_secs(waited),
                wanted,
                leader,
                me: "db-1",
                because: "it",
            })
        };
        let stopped = Wanted::Stopped;
        assert_eq!(ask(Some(&ballot()), &stopped, 1), None);
        assert_eq!(ask(Some(&other), &stopped, 1), Some(Ok(())));
        assert!(matches!(ask(Some(&again), &stopped, 1), Some(Err(_))));
        assert_eq!(ask(None, &wanted(true), 1), None);
        assert!(matches!(ask(None, &wanted(true), 3), Some(Err(_))));
        assert_eq!(ask(None, &stopped, 3), None);
        assert!(matches!(ask(None, &stopped, 31), Some(Err(_))));
    }
}
