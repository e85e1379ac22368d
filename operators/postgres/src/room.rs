//! When log that waits for the store has nearly filled the volume, and what is done about it. Values only: agents
//! and backup containers judge alike.
//!
//! A volume that is filled by data is none of it: letting log go, or refusing writes until it is stored, would
//! not help.

use std::time::Duration;

/// Smallest and largest room that is kept free, besides a twentieth of the volume.
const LEAST_FILES: u64 = 6;
const MOST: u64 = 8 << 30;
/// A store that takes the log has no more files than these waiting for longer than a moment.
const FEW: u64 = 3;
/// So long more has to wait: a store that is well takes what a moment has brought.
const PERSISTS: Duration = Duration::from_secs(2);

/// A volume, and the log on it. Everything in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Size of the volume.
    pub size: u64,
    /// What is free on it.
    pub free: u64,
    /// Log that waits for the store.
    pub waiting: u64,
    /// Size of one file of the log.
    pub file: u64,
}

/// How much has to be free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Enough, once there was too little.
    pub enough: u64,
    /// With less, something is done.
    pub low: u64,
    /// With less, it was not enough.
    pub least: u64,
    /// With less, nobody waits whether it passes.
    pub at_once: u64,
}

impl Marks {
    /// The same of who acts only when somebody else, who is to act before, has not.
    #[must_use]
    pub fn last_resort(self) -> Self {
        let low = self.least / 2;
        Self {
            enough: self.least,
            low,
            least: low / 2,
            at_once: low,
        }
    }
}

/// Since when more log waits than a store leaves that takes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    since: Option<Duration>,
    looked: bool,
}

impl Backlog {
    /// Of somebody to whom what is found at the first look has only just begun. To others it has lasted: what ran
    /// before may have acted on it.
    pub fn anew() -> Self {
        Self {
            since: None,
            looked: true,
        }
    }

    /// One look at the time `now`.
    pub fn look(&mut self, seen: &Seen, now: Duration) {
        let begun = if self.looked { now } else { Duration::ZERO };
        self.looked = true;
        self.since = (!seen.is_stored()).then(|| self.since.unwrap_or(begun));
    }

    /// Since when, if it does.
    pub fn since(&self) -> Option<Duration> {
        self.since
    }

    /// Whether it is no matter of a moment.
    pub fn lasts(&self, now: Duration) -> bool {
        self.since
            .is_some_and(|since| now.saturating_sub(since) >= PERSISTS)
    }
}

impl Seen {
    /// How much has to be free of this volume.
    pub fn marks(&self) -> Marks {
        let low = (self.size / 20)
            .min(MOST)
            .max(LEAST_FILES * self.file)
            .min(self.size / 4);
        Marks {
            enough: low + low / 2,
            low,
            least: low / 2,
            at_once: low - low / 4,
        }
    }

    /// Whether the store takes the log as it comes.
    pub fn is_stored(&self) -> bool {
        self.waiting <= FEW * self.file
    }

    /// Whether it may soon be so: look again at once.
    pub fn is_close(&self) -> bool {
        !self.is_stored() && self.free < 4 * self.marks().low
    }

    /// Whether there is too little room, and log that waits is why: without it there would be enough, or it is at
    /// least as much as is left. `leaving`: what is about to be free.
    pub fn is_crowded(&self, marks: &Marks, leaving: u64) -> bool {
        let room = self.free.saturating_add(leaving);
        let low = marks.low;
        let is_why = self.waiting >= room || room.saturating_add(self.waiting) >= low;
        !self.is_stored() && room < low && is_why
    }
}

/// Whether a primary takes writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    /// It does.
    #[default]
    Taken,
    /// It refuses them, and may be read.
    Refused,
    /// It lets no client in: refusing was not enough, for a session can ask for writes all the same.
    Closed,
}

impl Writes {
    /// Whether it takes them from now on. `crowded`: there is too little room ([`Seen::is_crowded`]), and it is no
    /// matter of a moment. `settled`: the log was stored, and what may go of it has gone.
    #[must_use]
    pub fn next(self, seen: &Seen, marks: &Marks, crowded: bool, settled: bool) -> Self {
        let refused = || {
            if seen.free < marks.least {
                Self::Closed
            } else {
                Self::Refused
            }
        };
        match self {
            Self::Taken if crowded => refused(),
            Self::Taken => Self::Taken,
            _ if seen.free >= marks.enough => Self::Taken,
            // What else fills the volume is not held against who writes.
            _ if settled && seen.is_stored() => Self::Taken,
            Self::Refused => refused(),
            Self::Closed if seen.free >= marks.low => Self::Refused,
            Self::Closed => Self::Closed,
        }
    }
}

/// How many of the files that wait are let go, the oldest first. `leaving`: bytes of those that were let go and
/// are still there. `away`: the store takes none, and it is no matter of a moment; else it is left time for as
/// long as there is any.
pub fn let_go(seen: &Seen, leaving: u64, away: bool) -> u64 {
    let marks = seen.marks();
    let room = seen.free.saturating_add(leaving);
    if !seen.is_crowded(&marks, leaving) || seen.file == 0 || !(away || room < marks.least) {
        return 0;
    }
    let missing = marks.enough.saturating_sub(room);
    missing.div_ceil(seen.file).min(seen.waiting / seen.file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FILE: u64 = 16 << 20;
    const GIB: u64 = 1 << 30;

    fn seen(size: u64, free: u64, files: u64) -> Seen {
        Seen {
            size,
            free,
            waiting: files * FILE,
            file: FILE,
        }
    }

    fn next(before: Writes, seen: &Seen, settled: bool) -> Writes {
        let marks = seen.marks();
        before.next(seen, &marks, seen.is_crowded(&marks, 0), settled)
    }

    #[test]
    fn marks_are_parts_of_the_volume_within_bounds() {
        let low = |size| seen(size, 0, 0).marks().low;
        assert_eq!(low(100 * GIB), 5 * GIB);
        assert_eq!(low(1000 * GIB), 8 * GIB, "never more than is of use");
        assert_eq!(low(GIB), 96 << 20, "never less than some files");
        assert_eq!(low(256 << 20), 64 << 20, "nor most of a small volume");
        assert_eq!(low(0), 0);
    }

    #[test]
    fn writes_are_refused_before_the_volume_is_full_and_taken_again() {
        let at = |free, files| seen(100 * GIB, free, files);
        let taken = Writes::Taken;
        assert_eq!(next(taken, &at(5 * GIB, 900), false), Writes::Taken);
        let refused = next(taken, &at(5 * GIB - 1, 900), false);
        assert_eq!(refused, Writes::Refused);
        assert_eq!(next(refused, &at(6 * GIB, 900), false), Writes::Refused);
        assert_eq!(
            next(refused, &at(8 * GIB, 900), false),
            Writes::Taken,
            "the volume has grown, or files have gone"
        );
        let closed = next(refused, &at(2 * GIB, 900), false);
        assert_eq!(closed, Writes::Closed);
        assert_eq!(
            next(closed, &at(4 * GIB, 900), false),
            Writes::Closed,
            "not to and fro"
        );
        assert_eq!(next(closed, &at(5 * GIB, 900), false), Writes::Refused);
        assert_eq!(
            next(taken, &at(GIB, 900), false),
            Writes::Closed,
            "as after a start"
        );
    }

    #[test]
    fn what_the_log_does_not_fill_is_not_held_against_writers() {
        let at = |free, files| seen(100 * GIB, free, files);
        assert_eq!(next(Writes::Taken, &at(GIB, 3), false), Writes::Taken);
        assert_eq!(
            next(Writes::Taken, &at(GIB, 20), false),
            Writes::Taken,
            "without what waits it would be as full"
        );
        assert_eq!(
            next(Writes::Taken, &at(GIB, 64), false),
            Writes::Closed,
            "it was as full before, and what waits takes what is left"
        );
        let refused = Writes::Refused;
        assert_eq!(
            next(refused, &at(4 * GIB, 2), false),
            Writes::Refused,
            "what was stored has not gone yet"
        );
        assert_eq!(next(refused, &at(4 * GIB, 2), true), Writes::Taken);
    }

    #[test]
    fn no_more_is_let_go_than_is_needed() {
        let at = |free, files| seen(100 * GIB, free, files);
        assert_eq!(let_go(&at(5 * GIB, 900), 0, true), 0);
        let files = let_go(&at(5 * GIB - 1, 900), 0, true);
        assert_eq!(files, (5 * GIB / 2 + 1).div_ceil(FILE));
        assert_eq!(
            let_go(&at(5 * GIB - 1, 900), files * FILE, true),
            0,
            "they leave"
        );
        assert_eq!(
            let_go(&at(4 * GIB, 100), 0, true),
            100,
            "as many as there are"
        );
        assert_eq!(let_go(&at(4 * GIB, 3), 0, true), 0, "the store takes them");
        assert_eq!(let_go(&at(GIB, 60), 0, true), 0, "it would not help");
        assert_eq!(let_go(&at(GIB, 64), 0, true), 64, "it is what is left");
        assert_eq!(
            let_go(&at(4 * GIB, 100), 0, false),
            0,
            "a store that takes log is left time"
        );
        assert_eq!(let_go(&at(5 * GIB / 2 - 1, 200), 0, false), 200);
        assert_eq!(let_go(&Seen::default(), 0, false), 0);
    }

    #[test]
    fn what_lasts_a_moment_is_none_unless_it_is_found_at_a_start() {
        let at = Duration::from_secs;
        let mut backlog = Backlog::anew();
        let (away, well) = (seen(GIB, GIB, 4), seen(GIB, GIB, 3));
        backlog.look(&away, at(100));
        assert!(!backlog.lasts(at(101)) && backlog.lasts(at(102)));
        backlog.look(&well, at(104));
        assert!(!backlog.lasts(at(200)));
        backlog.look(&away, at(200));
        backlog.look(&away, at(202));
        assert_eq!(backlog.since(), Some(at(200)));
        let mut backlog = Backlog::default();
        backlog.look(&away, at(100));
        assert!(
            backlog.lasts(at(100)),
            "who ran before may have acted on it"
        );
        let mut backlog = Backlog::default();
        backlog.look(&well, at(100));
        backlog.look(&away, at(101));
        assert!(!backlog.lasts(at(102)));
    }

    #[test]
    fn the_last_resort_is_below_what_others_act_by() {
        let marks = seen(100 * GIB, 0, 0).marks();
        let last = marks.last_resort();
        assert!(last.low < marks.at_once && last.enough <= marks.low);
        assert_eq!(last.at_once, last.low, "nothing is waited for any more");
        assert!(last.least < last.low && last.low < last.enough);
    }

    proptest! {
        #[test]
        fn log_that_fills_the_rest_is_noticed_however_full_the_volume_was(
            size in 4 * GIB..200 * GIB, files in 4_u64..4000,
        ) {
            // From when the store goes away.
            let total = files * FILE;
            let noticed = (0..=files).any(|waiting| {
                let seen = seen(size, total - waiting * FILE, waiting);
                seen.is_crowded(&seen.marks(), 0)
            });
            prop_assert!(noticed);
            let last = seen(size, 0, files);
            prop_assert!(last.is_crowded(&last.marks().last_resort(), 0));
        }

        #[test]
        fn whoever_is_at_the_end_of_the_room_never_writes_on(
            size in 0..200 * GIB, part in 0.0..1.0_f64, files in 0_u64..4000, before in 0_usize..3,
        ) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss,
                reason = "any part of it")]
            let free = (size as f64 * part) as u64;
            let seen = seen(size, free, files);
            let before = [Writes::Taken, Writes::Refused, Writes::Closed][before];
            let (marks, crowded) = (seen.marks(), seen.is_crowded(&seen.marks(), 0));
            let next = before.next(&seen, &marks, crowded, false);
            if crowded {
                prop_assert!(next != Writes::Taken);
            }
            if free >= seen.marks().enough {
                prop_assert_eq!(next, Writes::Taken);
            }
            // It is a fixed point: no look changes what the same look has decided.
            prop_assert_eq!(next.next(&seen, &marks, crowded, false), next);
            // Letting go ends.
            let gone = let_go(&seen, 0, true) * FILE;
            prop_assert!(gone <= seen.waiting);
            let after = Seen { waiting: seen.waiting - gone, ..seen };
            prop_assert_eq!(let_go(&after, gone, true), 0);
        }
    }
}
