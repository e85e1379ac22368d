//! Whether a primary can hand over to a given instance now. Values only.

use mainstay_shared::election::charter::Charter;
use mainstay_shared::election::member::Member;
use mainstay_shared::election::message::Wanted;

use super::render;
use super::sql::Vitals;

/// Most log, in bytes, that whoever takes over may lack when it begins: while it catches up nobody
/// writes. A replica that lacks more is left behind when the engine is stopped.
pub const MOST_BEHIND: u64 = 16 << 20;

/// The member that takes over, or why it cannot, in a sentence.
pub fn successor(
    to: &str,
    wanted: &Wanted,
    vitals: Option<&Vitals>,
    charter: Option<&Charter>,
) -> Result<Member, String> {
    if !matches!(wanted, Wanted::Primary { open: true, .. }) {
        return Err("this instance does not take writes now".to_owned());
    }
    let Some(vitals) = vitals else {
        return Err("this instance does not answer now".to_owned());
    };
    let mut streaming = vitals.flushed.iter();
    let found = streaming.find_map(|(name, flushed)| {
        let member = render::member(name)?;
        (member.name.as_str() == to).then_some((member, *flushed))
    });
    let Some((member, flushed)) = found else {
        return Err(format!("{to} does not stream from the primary now"));
    };
    let behind = vitals.position.saturating_sub(flushed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_shared::election::group::Group;
    use mainstay_shared::election::member::{Ballot, Epoch, Holder};

    fn ballot() -> Ballot {
        Ballot {
            epoch: Epoch(3),
            holder: Holder {
                member: render::member("db-1.a").unwrap(),
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
            primary: render::member("db-1.a").unwrap(),
            voters: [render::member(voter).unwrap()].into(),
            acks: 1,
        }
    }

    fn charter(groups: Vec<Group>) -> Charter {
        Charter {
            ballot: ballot(),
            version: 1,
            groups,
            members: [
                render::member("db-1.a").unwrap(),
                render::member("db-2.b").unwrap(),
            ]
            .into(),
            timeline: 2,
            fork: 0,
            successor: None,
            identifier: None,
        }
    }

    fn vitals(flushed: u64) -> Vitals {
        Vitals {
            position: 100 << 20,
            flushed: vec![("db-2.b".into(), flushed), ("db-3.c".into(), 100 << 20)],
            ..Vitals::default()
        }
    }

    #[test]
    fn who_streams_and_has_nearly_everything_takes_over() {
        let settled = charter(vec![group("db-2.b")]);
        let ask = |to, open, flushed| {
            successor(to, &wanted(open), Some(&vitals(flushed)), Some(&settled))
        };
        assert_eq!(ask("db-2", true, 99 << 20).unwrap().name.as_str(), "db-2");
        assert!(ask("db-2", false, 99 << 20).is_err(), "not open");
        assert!(ask("db-4", true, 0).unwrap_err().contains("stream"));
        assert!(ask("db-2", true, 10 << 20).unwrap_err().contains("90 MiB"));
        assert!(ask("db-3", true, 0).unwrap_err().contains("new"));
        assert!(successor("db-2", &wanted(true), None, Some(&settled)).is_err());
    }

    #[test]
    fn nothing_is_handed_over_in_the_middle_of_a_change() {
        let changing = charter(vec![group("db-3.c"), group("db-2.b")]);
        let refused = successor(
            "db-2",
            &wanted(true),
            Some(&vitals(100 << 20)),
            Some(&changing),
        );
        assert!(refused.unwrap_err().contains("not finished"));
    }
}
