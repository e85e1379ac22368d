//! Which shard of a backup answers which check, and what comes of what they answer. Pure.
//!
//! A set that is no cluster is one shard with all slots.

use super::answers::counted;
use crate::backup::settings::DrillCheck;
use crate::backup::shards::Slots;
use crate::shards::slots::slot;

/// Of a command without a key.
pub const NO_KEY: &str = "it names no key, and a command is asked of the shard that has its keys: for a number of keys write keys";
/// Of a command with keys of several shards.
const APART: &str = "its keys are in different slots, which a cluster refuses (CROSSSLOT): give them a {tag} in common";

/// Who is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// All shards: what they answer is added up.
    All,
    /// This one, counted from 0.
    One(usize),
    /// Nobody could be: a sentence.
    Nobody(String),
}

impl Way {
    /// Whether this shard is asked.
    pub fn leads_to(&self, shard: usize) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => *one == shard,
            Self::Nobody(_) => false,
        }
    }
}

/// What one shard answered, where that is good so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// So many keys.
    Keys(u64),
    /// What was expected.
    Good,
}

/// Who is asked about these keys, which a cluster has to have in one slot. `shards`: the slots of each.
pub fn of_keys<K: AsRef<[u8]>>(keys: &[K], shards: &[&[Slots]]) -> Way {
    let mut slots = keys.iter().map(|key| slot(key.as_ref()));
    let Some(first) = slots.next() else {
        return Way::Nobody(NO_KEY.to_owned());
    };
    if slots.any(|slot| slot != first) {
        return Way::Nobody(APART.to_owned());
    }
    let owner = shards.iter().position(|slots| has(slots, first));
    owner.map_or_else(
        || Way::Nobody(format!("no shard of the backup has slot {first}")),
        Way::One,
    )
}

/// What came of a check, by what those who were asked have answered; none where somebody was not, as one who has not started: that is a
/// finding of its own.
pub fn verdict(
    check: &DrillCheck,
    way: &Way,
    answers: &[Result<Answer, String>],
    shards: usize,
) -> Option<Result<(), String>> {
    let asked = match way {
        Way::Nobody(why) => return Some(Err(why.clone())),
        Way::One(_) => 1,
        Way::All => shards,
    };
    let mut keys: u64 = 0;
    for answer in answers {
        match answer {
            Ok(Answer::Keys(n)) => keys = keys.saturating_add(*n),
            Ok(Answer::Good) => {}
            Err(why) => return Some(Err(why.clone())),
        }
    }
    if answers.len() < asked {
        return None;
    }
    Some(match check {
        DrillCheck::Keys {
            at_least, at_most, ..
        } => counted(keys, *at_least, *at_most),
        DrillCheck::Key { .. } | DrillCheck::Command { .. } => Ok(()),
    })
}

/// Keys that a shard with these slots has and should not: a cluster that is made from it would not come up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strangers {
    count: u64,
    first: Option<u16>,
}

impl Strangers {
    /// Looks at one more key.
    pub fn look(&mut self, key: &[u8], slots: &[Slots]) {
        let slot = slot(key);
        if !has(slots, slot) {
            self.count += 1;
            self.first.get_or_insert(slot);
        }
    }

    /// Whether there are none.
    ///
    /// # Errors
    /// How many, and a slot of theirs: names of keys are nobody's business.
    pub fn none(&self) -> Result<(), String> {
        let Some(slot) = self.first else {
            return Ok(());
        };
        Err(format!(
            "{} of its keys are of slots that its manifest gives to others, as slot {slot}",
            self.count
        ))
    }
}

fn has(slots: &[Slots], slot: u16) -> bool {
    slots.iter().any(|range| range.contains(slot))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::backup::shards::SLOTS;

    fn slots(first: u16, last: u16) -> Slots {
        Slots { first, last }
    }

    fn three() -> [Vec<Slots>; 3] {
        // Slots of a shard are not in one piece.
        [
            vec![slots(0, 5000), slots(12_182, 12_182)],
            vec![slots(5001, 5060), slots(5062, 12_181)],
            vec![slots(5061, 5061), slots(12_183, SLOTS - 1)],
        ]
    }

    fn way(keys: &[&str]) -> Way {
        let three = three();
        let shards: Vec<&[Slots]> = three.iter().map(Vec::as_slice).collect();
        of_keys(keys, &shards)
    }

    fn keys(at_least: u64) -> DrillCheck {
        DrillCheck::Keys {
            database: None,
            at_least: Some(at_least),
            at_most: None,
        }
    }

    fn key() -> DrillCheck {
        DrillCheck::Key {
            database: 0,
            name: "foo".into(),
            kind: None,
            value: None,
        }
    }

    #[test]
    fn who_has_the_slot_of_the_keys_is_asked() {
        assert_eq!(way(&["foo"]), Way::One(0));
        assert_eq!(way(&["bar"]), Way::One(2));
        assert_eq!(way(&["bar", "{bar}:more", "x{bar}"]), Way::One(2));
        assert_eq!(way(&[]), Way::Nobody(NO_KEY.into()));
        assert_eq!(way(&["foo", "bar"]), Way::Nobody(APART.into()));
        let none: [&[Slots]; 1] = [&[slots(0, 7)]];
        let Way::Nobody(why) = of_keys(&["foo"], &none) else {
            panic!("somebody has it");
        };
        assert!(why.contains("12182"), "{why}");
    }

    #[test]
    fn a_check_holds_when_all_who_were_asked_have_answered() {
        let (good, bad) = (Ok(Answer::Good), Err("there is no such key".to_owned()));
        let one = |answers: &[Result<Answer, String>]| verdict(&key(), &Way::One(1), answers, 3);
        assert_eq!(one(&[]), None);
        assert_eq!(one(&[good]), Some(Ok(())));
        assert_eq!(one(std::slice::from_ref(&bad)), Some(bad.map(drop)));
        let nobody = Way::Nobody("why".into());
        assert_eq!(verdict(&key(), &nobody, &[], 3), Some(Err("why".into())));
    }

    #[test]
    fn keys_of_a_slot_of_another_are_strangers() {
        let [first, _, third] = three();
        let look = |slots: &[Slots]| {
            let mut strangers = Strangers::default();
            for key in [&b"foo"[..], b"{foo}\xff\x00"] {
                strangers.look(key, slots);
            }
            strangers.none()
        };
        assert_eq!(look(&first), Ok(()));
        let why = look(&third).unwrap_err();
        assert!(
            why.starts_with("2 of its keys") && why.contains("12182"),
            "{why}"
        );
    }

    proptest! {
        #[test]
        fn keys_are_the_sum_over_all_shards_and_of_fewer_nothing_is_said(
            counts in prop::collection::vec(0..1_000_u64, 1..16), least in 0..8_000_u64, silent in 0..16_usize,
        ) {
            let mut answers: Vec<_> = counts.iter().map(|n| Ok(Answer::Keys(*n))).collect();
            let sum: u64 = counts.iter().sum();
            let found = verdict(&keys(least), &Way::All, &answers, counts.len());
            prop_assert_eq!(found.map(|f| f.is_ok()), Some(sum >= least));
            if silent < answers.len() {
                let _ = answers.remove(silent);
                prop_assert_eq!(verdict(&keys(least), &Way::All, &answers, counts.len()), None);
                answers.push(Err("it takes too long".into()));
                prop_assert!(verdict(&keys(least), &Way::All, &answers, counts.len()).unwrap().is_err());
            }
        }

        /// However slots are dealt out: each key is asked of one shard, whose key it is.
        #[test]
        fn every_key_is_asked_of_one_shard(cut in 1..SLOTS, name in ".{0,20}") {
            let parts = [vec![slots(0, cut - 1)], vec![slots(cut, SLOTS - 1)]];
            let shards: Vec<&[Slots]> = parts.iter().map(Vec::as_slice).collect();
            let Way::One(owner) = of_keys(&[&name], &shards) else {
                panic!("nobody");
            };
            for (number, slots) in parts.iter().enumerate() {
                let mut strangers = Strangers::default();
                strangers.look(name.as_bytes(), slots);
                prop_assert_eq!(strangers.none().is_ok(), number == owner);
            }
        }
    }
}
