//! Which slot a key has, and sets of slots. Pure.

use std::fmt;

use crate::backup::shards::{SLOTS, Slots};

const WORDS: usize = SLOTS as usize / 64;

/// CRC-16 of the cluster's protocol (XMODEM): a few lines, for the crates with it bring tables of a hundred others.
fn crc16(bytes: &[u8]) -> u16 {
    let mut crc: u16 = 0;
    for byte in bytes {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            let carry = crc & 0x8000 != 0;
            crc <<= 1;
            if carry {
                crc ^= 0x1021;
            }
        }
    }
    crc
}

/// The slot of a key: that of its tag, where it has one, which is what is in its first braces unless that is nothing.
pub fn slot(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % SLOTS
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let begin = key.iter().position(|b| *b == b'{')? + 1;
    let rest = key.get(begin..)?;
    let length = rest.iter().position(|b| *b == b'}')?;
    rest.get(..length).filter(|tag| !tag.is_empty())
}

/// Some of the slots that keys are spread over.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotSet([u64; WORDS]);

impl Default for SlotSet {
    fn default() -> Self {
        Self([0; WORDS])
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ranges()).finish()
    }
}

/// The first ranges, for sentences.
impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.ranges();
        let mut words: Vec<String> = ranges.iter().take(3).map(Slots::to_string).collect();
        if ranges.len() > 3 {
            words.push("…".to_owned());
        }
        f.write_str(&words.join(", "))
    }
}

impl FromIterator<u16> for SlotSet {
    fn from_iter<T: IntoIterator<Item = u16>>(slots: T) -> Self {
        let mut set = Self::default();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

/// Where a slot is: the word, and its bit.
fn place(slot: u16) -> (usize, u64) {
    (usize::from(slot / 64), 1 << (slot % 64))
}

impl SlotSet {
    /// All there are.
    pub fn all() -> Self {
        Self([u64::MAX; WORDS])
    }

    /// With this one. What is no slot is left out.
    pub fn insert(&mut self, slot: u16) {
        let (word, bit) = place(slot);
        if let Some(word) = self.0.get_mut(word) {
            *word |= bit;
        }
    }

    /// With all of these.
    pub fn insert_range(&mut self, slots: Slots) {
        (slots.first..=slots.last).for_each(|slot| self.insert(slot));
    }

    /// Without this one.
    pub fn remove(&mut self, slot: u16) {
        let (word, bit) = place(slot);
        if let Some(word) = self.0.get_mut(word) {
            *word &= !bit;
        }
    }

    /// Whether this one is in it.
    pub fn contains(&self, slot: u16) -> bool {
        let (word, bit) = place(slot);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u16> + '_ {
        (0..SLOTS).filter(|slot| self.contains(*slot))
    }

    /// With all of the other's.
    pub fn extend(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
    }

    /// Without any of the other's.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        for (mine, theirs) in rest.0.iter_mut().zip(other.0) {
            *mine &= !theirs;
        }
        rest
    }

    /// What both have.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        self.without(&self.without(other))
    }

    /// As ranges that do not touch.
    pub fn ranges(&self) -> Vec<Slots> {
        let mut ranges: Vec<Slots> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some(range) if range.last + 1 == slot => range.last = slot,
                _ => ranges.push(Slots {
                    first: slot,
                    last: slot,
                }),
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slots_of_keys_are_those_of_the_protocol() {
        // The specification's own examples, and what Redis answers CLUSTER KEYSLOT.
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!((slot(b"foo"), slot(b"bar"), slot(b"")), (12182, 5061, 0));
        let same: [(&[u8], &[u8]); 3] = [
            (b"{user1000}.following", b"user1000"),
            (b"foo{{bar}}zap", b"{bar"),
            (b"foo{bar}{zap}", b"bar"),
        ];
        for (key, tag) in same {
            assert_eq!(slot(key), crc16(tag) % SLOTS, "{}", key.escape_ascii());
        }
        for whole in [&b"foo{}{bar}"[..], b"foo{bar", b"foo}bar{"] {
            assert_eq!(
                slot(whole),
                crc16(whole) % SLOTS,
                "{}",
                whole.escape_ascii()
            );
        }
    }

    #[test]
    fn all_are_all() {
        assert_eq!(SlotSet::all().len(), usize::from(SLOTS));
        assert_eq!(SlotSet::all().ranges(), [Slots::ALL]);
        let mut none = SlotSet::default();
        none.insert(SLOTS);
        assert!(none.is_empty(), "16384 is no slot");
    }

    proptest! {
        #[test]
        fn it_is_a_set(some in prop::collection::btree_set(0..SLOTS, 0..300), more in prop::collection::btree_set(0..SLOTS, 0..300)) {
            let (a, b): (SlotSet, SlotSet) = (some.iter().copied().collect(), more.iter().copied().collect());
            prop_assert_eq!(a.len(), some.len());
            prop_assert_eq!(a.iter().collect::<BTreeSet<_>>(), some.clone());
            prop_assert_eq!(a.without(&b).iter().collect::<BTreeSet<_>>(), &some - &more);
            prop_assert_eq!(a.and(&b).iter().collect::<BTreeSet<_>>(), &some & &more);
            let mut both = a.clone();
            both.extend(&b);
            prop_assert_eq!(both.iter().collect::<BTreeSet<_>>(), &some | &more);
            let mut again = SlotSet::default();
            a.ranges().into_iter().for_each(|range| again.insert_range(range));
            prop_assert_eq!(&again, &a);
            for slot in &some {
                again.remove(*slot);
                prop_assert!(!again.contains(*slot));
            }
            prop_assert!(again.is_empty());
        }
    }
}
