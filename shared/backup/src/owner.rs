//! Who may write to a repository. Pure.
//!
//! `owner/<n>` records are written once each; the highest number counts. An instance's id is minted when
//! its data is made, kept with the data and written as the first record. Who adopts the data, or goes back
//! in time in place, appends the next number and names its predecessor. Anyone else is refused, and
//! writes nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ids::OwnerId;

/// Why an instance came to own a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// Its data is new, and so is the repository.
    Founded,
    /// It took over another's data or repository because a person said so.
    Adopted,
    /// Another reason, of a later release.
    #[serde(other)]
    Other,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its number, from 1; also in its key.
    pub number: u32,
    /// Whose it is from here on.
    pub owner: OwnerId,
    /// For people: which resource, for example `shop/db`.
    pub resource: String,
    /// Since when.
    pub since: Timestamp,
    /// Why.
    pub reason: Reason,
    /// Whose it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predecessor: Option<OwnerId>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The id that is kept with the data.
    pub owner: OwnerId,
    /// For people: which resource.
    pub resource: String,
    /// The owner whose repository it shall take over, where a person said so.
    pub adopt: Option<OwnerId>,
}

/// Whether a claim holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is the owner's, since this record.
    Ours(u32),
    /// It may become the owner by writing this record, if nobody writes one of that number first.
    Write(Record),
    /// It may not write.
    Refused(Refusal),
}

/// Why somebody may not write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another instance owns the repository.
    #[error(
        "this repository belongs to {} since {} (owner {}): choose another prefix, or adopt it by naming that owner",
        current.resource, current.since, current.owner
    )]
    Foreign {
        /// The record that counts.
        current: Box<Record>,
    },
    /// The instance was the owner until another adopted the repository.
    #[error(
        "this repository was ours until {} adopted it at {}: this instance no longer writes backups here",
        by.resource, by.since
    )]
    Superseded {
        /// Who did.
        by: Box<Record>,
    },
    /// Something is there, and no record says whose.
    #[error(
        "the prefix holds {example} and nothing that says whose it is: choose an empty prefix, or remove what is there"
    )]
    NotEmpty {
        /// One of the keys.
        example: String,
    },
    /// Records are missing or contradict each other.
    #[error(
        "the ownership records are not whole ({what}): nothing is written until a person has looked"
    )]
    Broken {
        /// What is wrong.
        what: String,
    },
}

/// Judges a claim. `records`: all there are, in whatever order. `foreign`: a key below the prefix that is
/// not a record, if there is any.
pub fn judge(claim: &Claim, records: &[Record], foreign: Option<&str>, now: Timestamp) -> Verdict {
    if let Some(what) = broken(records) {
        return Verdict::Refused(Refusal::Broken { what });
    }
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by_key(|record| record.number);
    let Some(current) = sorted.last() else {
        return match foreign {
            Some(example) => Verdict::Refused(Refusal::NotEmpty {
                example: example.to_owned(),
            }),
            None => Verdict::Write(Record {
                number: 1,
                owner: claim.owner.clone(),
                resource: claim.resource.clone(),
                since: now,
                reason: Reason::Founded,
                predecessor: None,
            }),
        };
    };
    if current.owner == claim.owner {
        return Verdict::Ours(current.number);
    }
    if claim.adopt.as_ref() == Some(&current.owner) {
        return Verdict::Write(Record {
            number: current.number + 1,
            owner: claim.owner.clone(),
            resource: claim.resource.clone(),
            since: now,
            reason: Reason::Adopted,
            predecessor: Some(current.owner.clone()),
        });
    }
    let successor = sorted
        .iter()
        .rposition(|record| record.owner == claim.owner)
        .and_then(|at| sorted.get(at + 1));
    Verdict::Refused(match successor {
        Some(by) => Refusal::Superseded {
            by: Box::new((*by).clone()),
        },
        None => Refusal::Foreign {
            current: Box::new((*current).clone()),
        },
    })
}

/// What is wrong with records: a gap, or a record that does not name the one before it.
fn broken(records: &[Record]) -> Option<String> {
    let mut sorted: Vec<&Record> = records.iter().collect();
    sorted.sort_by_key(|record| record.number);
    for (record, expected) in sorted.iter().zip(1..) {
        if record.number != expected {
            return Some(format!("number {expected} is missing"));
        }
    }
    sorted.windows(2).find_map(|pair| {
        (pair[1].predecessor.as_ref() != Some(&pair[0].owner)).then(|| {
            format!(
                "number {} does not name number {} as its predecessor",
                pair[1].number, pair[0].number
            )
        })
    })
}

/// Whether an owner is, or ever was, one of a repository.
pub fn ever_owned(records: &[Record], owner: &OwnerId) -> bool {
    records.iter().any(|record| record.owner == *owner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(n: u8) -> OwnerId {
        OwnerId::new([n; 16])
    }

    fn claim(n: u8, adopt: Option<u8>) -> Claim {
        Claim {
            owner: id(n),
            resource: format!("shop/db{n}"),
            adopt: adopt.map(id),
        }
    }

    fn now() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    /// What a store with writes that hold once makes of claims, one after the other.
    fn replay(claims: &[Claim]) -> (Vec<Record>, Vec<Verdict>) {
        let mut records = Vec::new();
        let verdicts = claims
            .iter()
            .map(|claim| {
                let verdict = judge(claim, &records, None, now());
                if let Verdict::Write(record) = &verdict {
                    records.push(record.clone());
                }
                verdict
            })
            .collect();
        (records, verdicts)
    }

    #[test]
    fn the_first_founds_and_a_second_is_refused_with_a_sentence() {
        let (records, verdicts) = replay(&[claim(1, None), claim(1, None), claim(2, None)]);
        assert_eq!(records.len(), 1);
        assert_eq!(verdicts[1], Verdict::Ours(1));
        let Verdict::Refused(refusal) = &verdicts[2] else {
            panic!("{verdicts:?}");
        };
        assert_eq!(
            refusal.to_string(),
            format!(
                "this repository belongs to shop/db1 since 1970-01-01T00:00:00Z (owner {}): \
                 choose another prefix, or adopt it by naming that owner",
                id(1)
            )
        );
    }

    #[test]
    fn who_was_adopted_away_writes_no_more() {
        let (records, verdicts) = replay(&[claim(1, None), claim(2, Some(1)), claim(1, None)]);
        assert_eq!(records[1].predecessor, Some(id(1)));
        assert!(
            matches!(&verdicts[2], Verdict::Refused(Refusal::Superseded { by }) if by.owner == id(2))
        );
        assert!(ever_owned(&records, &id(1)) && !ever_owned(&records, &id(3)));
    }

    #[test]
    fn adoption_names_the_one_that_counts() {
        let (_, verdicts) = replay(&[claim(1, None), claim(2, Some(1)), claim(3, Some(1))]);
        assert!(matches!(
            &verdicts[2],
            Verdict::Refused(Refusal::Foreign { .. })
        ));
    }

    #[test]
    fn what_nobody_owns_is_not_taken() {
        let verdict = judge(&claim(1, None), &[], Some("photos/cat.jpg"), now());
        let Verdict::Refused(refusal) = verdict else {
            panic!("{verdict:?}");
        };
        assert!(refusal.to_string().contains("photos/cat.jpg"), "{refusal}");
    }

    #[test]
    fn records_that_are_not_whole_stop_everything() {
        let (records, _) = replay(&[claim(1, None), claim(2, Some(1)), claim(3, Some(2))]);
        let gap = [records[0].clone(), records[2].clone()];
        assert!(matches!(
            judge(&claim(3, None), &gap, None, now()),
            Verdict::Refused(Refusal::Broken { .. })
        ));
        let mut wrong = records.clone();
        wrong[2].predecessor = Some(id(9));
        assert!(matches!(
            judge(&claim(3, None), &wrong, None, now()),
            Verdict::Refused(Refusal::Broken { .. })
        ));
    }

    proptest! {
        #[test]
        fn exactly_one_owner_whoever_claims(claims in prop::collection::vec((1_u8..5, prop::option::of(1_u8..5)), 1..30)) {
            let claims: Vec<Claim> = claims.into_iter().map(|(n, adopt)| claim(n, adopt)).collect();
            let (records, _) = replay(&claims);
            prop_assert_eq!(broken(&records), None);
            let owners = (1..5)
                .filter(|n| matches!(judge(&claim(*n, None), &records, None, now()), Verdict::Ours(_)))
                .count();
            prop_assert_eq!(owners, 1);
            // Records only ever get more, and nobody owns without a record.
            prop_assert!(records.iter().zip(1..).all(|(record, n)| record.number == n));
        }

        #[test]
        fn the_order_in_which_records_are_listed_does_not_matter(seed in any::<u64>()) {
            let (records, _) = replay(&[claim(1, None), claim(2, Some(1)), claim(3, Some(2))]);
            let mut shuffled = records.clone();
            shuffled.rotate_left(usize::try_from(seed % 3).unwrap());
            for n in 1..5 {
                prop_assert_eq!(
                    judge(&claim(n, None), &records, None, now()),
                    judge(&claim(n, None), &shuffled, None, now())
                );
            }
        }
    }
}
