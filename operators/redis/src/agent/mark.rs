//! The mark in a dataset: whose it is and how far it goes. Values only.
//!
//! Redis forgets its replication offset when it starts from an append-only file, and gives itself another replication
//! id at every start and promotion. So the primary writes a mark into the dataset: a library of functions with nothing
//! but a comment in it. It goes the way of every write, to replicas, into the append-only file and into snapshots;
//! `FLUSHALL` leaves it, no key is used, and nothing evicts it.

use mainstay_shared::election::member::{Epoch, Position};

/// Name of the library.
pub const LIBRARY: &str = "mainstay";
/// The line with the mark begins so.
const BEGIN: &str = "-- mainstay ";

/// A mark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Identifier of the set's data.
    pub set: String,
    /// Epoch of the promotion that this history had last.
    pub epoch: u64,
    /// The timeline that it claimed.
    pub timeline: u64,
    /// Replication id under which `base` and `offset` count.
    pub replid: String,
    /// The offset at that promotion.
    pub base: u64,
    /// The offset before the mark was written: the dataset with this mark goes at least so far.
    pub offset: u64,
}

impl Mark {
    /// Source of the library that bears it.
    pub fn code(&self) -> String {
        let Self {
            set,
            epoch,
            timeline,
            replid,
            base,
            offset,
        } = self;
        format!(
            "#!lua name={LIBRARY}\n{BEGIN}set={set} epoch={epoch} timeline={timeline} replid={replid} base={base} offset={offset}\n\
             redis.register_function{{function_name='mainstay_mark', callback=function() return {epoch} end, flags={{'no-writes'}}}}\n"
        )
    }

    /// The mark in the source of a library.
    pub fn read(code: &str) -> Option<Self> {
        let line = code.lines().find_map(|l| l.strip_prefix(BEGIN))?;
        let mut mark = Self::default();
        let mut seen = 0;
        for (key, value) in line.split_whitespace().filter_map(|w| w.split_once('=')) {
            match key {
                "set" => value.clone_into(&mut mark.set),
                "epoch" => mark.epoch = value.parse().ok()?,
                "timeline" => mark.timeline = value.parse().ok()?,
                "replid" => value.clone_into(&mut mark.replid),
                "base" => mark.base = value.parse().ok()?,
                "offset" => mark.offset = value.parse().ok()?,
                // Of a newer version.
                _ => continue,
            }
            seen += 1;
        }
        (seen == 6).then_some(mark)
    }

    /// How far a dataset with this mark goes whose engine counts `offset` under `replid`.
    ///
    /// Under the mark's own id that is exact. Else the engine has started from its file since, and counts from zero: then
    /// at least as far as the mark; or it has just begun to receive from who was promoted last, which counts on.
    pub fn position(&self, replid: &str, offset: u64) -> Position {
        let lsn = if replid == self.replid {
            offset
        } else {
            offset.max(self.offset)
        };
        Position {
            epoch: Epoch(self.epoch),
            lsn,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark() -> Mark {
        Mark {
            set: "s1".into(),
            epoch: 7,
            timeline: 3,
            replid: "aa".into(),
            base: 100,
            offset: 150,
        }
    }

    #[test]
    fn an_offset_counts_under_its_own_id_only() {
        let at = |lsn| Position {
            epoch: Epoch(7),
            lsn,
        };
        assert_eq!(mark().position("aa", 170), at(170));
        assert_eq!(mark().position("bb", 0), at(150), "started from its file");
        assert_eq!(
            mark().position("bb", 160),
            at(160),
            "its primary was promoted just now"
        );
    }

    #[test]
    fn what_is_no_mark_is_none() {
        assert_eq!(
            Mark::read("#!lua name=other\nredis.register_function('f', f)"),
            None
        );
        assert_eq!(Mark::read("-- mainstay set=a epoch=1"), None);
        assert_eq!(
            Mark::read(&mark().code().replace("epoch=7", "epoch=x")),
            None
        );
        let newer = mark().code().replacen(" set=", " more=1 set=", 1);
        assert_eq!(Mark::read(&newer), Some(mark()));
    }

    proptest! {
        #[test]
        fn a_mark_is_read_as_it_was_written(
            set in "[0-9a-f]{1,32}", replid in "[0-9a-f]{40}", numbers in any::<(u64, u64, u64, u64)>(),
        ) {
            let (epoch, timeline, base, offset) = numbers;
            let mark = Mark { set, epoch, timeline, replid, base, offset };
            prop_assert_eq!(Mark::read(&mark.code()), Some(mark));
        }
    }
}
