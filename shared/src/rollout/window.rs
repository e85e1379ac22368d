//! Maintenance windows: when instances may be disturbed. Values only.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use mainstay_crds::common::{Day, Maintenance};

/// A weekly window, in UTC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    days: Vec<Weekday>,
    start: Time,
    length: SignedDuration,
}

/// When a set may be disturbed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    windows: Vec<Window>,
    frozen: bool,
}

/// Whether a set may be disturbed now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Door {
    /// It may.
    #[default]
    Open,
    /// Not before then.
    Until(Timestamp),
    /// Not before somebody says so.
    Frozen,
}

/// What is wrong with a window, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowProblem {
    /// Its beginning is no time of day.
    Start(usize),
    /// Its length is none.
    Hours(usize),
}

impl Windows {
    /// What is asked for.
    ///
    /// # Errors
    /// Everything that is wrong with it; never empty.
    pub fn read(asked: Option<&Maintenance>) -> Result<Self, Vec<WindowProblem>> {
        let Some(asked) = asked else {
            return Ok(Self::default());
        };
        let (mut windows, mut problems) = (Vec::new(), Vec::new());
        for (at, window) in asked.windows.iter().enumerate() {
            let start = time(&window.start);
            if start.is_none() {
                problems.push(WindowProblem::Start(at));
            }
            if !(1..=24).contains(&window.hours) {
                problems.push(WindowProblem::Hours(at));
            }
            windows.extend(start.map(|start| Window {
                days: window.days.iter().copied().map(weekday).collect(),
                start,
                length: SignedDuration::from_hours(window.hours.into()),
            }));
        }
        if problems.is_empty() {
            Ok(Self {
                windows,
                frozen: asked.freeze.unwrap_or(false),
            })
        } else {
            Err(problems)
        }
    }

    /// Whether a set may be disturbed at that time.
    pub fn door(&self, now: Timestamp) -> Door {
        if self.frozen {
            return Door::Frozen;
        }
        if self.windows.is_empty() {
            return Door::Open;
        }
        let spans = self.around(now);
        if spans.iter().any(|(from, to)| *from <= now && now < *to) {
            return Door::Open;
        }
        let later = spans.into_iter().map(|(from, _)| from).filter(|f| *f > now);
        later.min().map_or(Door::Frozen, Door::Until)
    }

    /// Windows from the one that began yesterday, and may go on, to that of a week from now.
    fn around(&self, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        let today = now.to_zoned(TimeZone::UTC).date();
        let mut spans = Vec::new();
        for days in -1..=7 {
            let Ok(date) = today.checked_add(days.days()) else {
                continue;
            };
            let on = |w: &&Window| w.days.is_empty() || w.days.contains(&date.weekday());
            for window in self.windows.iter().filter(on) {
                let begins = date.to_datetime(window.start).to_zoned(TimeZone::UTC);
                if let Ok(begins) = begins.map(|b| b.timestamp())
                    && let Ok(ends) = begins.checked_add(window.length)
                {
                    spans.push((begins, ends));
                }
            }
        }
        spans
    }
}

/// `HH:MM`.
fn time(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    let two_digits = |t: &str| t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit());
    if !(two_digits(hour) && two_digits(minute)) {
        return None;
    }
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

fn weekday(day: Day) -> Weekday {
    match day {
        Day::Monday => Weekday::Monday,
        Day::Tuesday => Weekday::Tuesday,
        Day::Wednesday => Weekday::Wednesday,
        Day::Thursday => Weekday::Thursday,
        Day::Friday => Weekday::Friday,
        Day::Saturday => Weekday::Saturday,
        Day::Sunday => Weekday::Sunday,
    }
}

#[cfg(test)]
mod tests {
    use mainstay_crds::common::maintenance::Window as Asked;
    use proptest::prelude::*;

    use super::*;

    fn window(days: &[Day], start: &str, hours: i32) -> Asked {
        Asked {
            days: days.to_vec(),
            start: start.into(),
            hours,
        }
    }

    fn windows(all: &[Asked]) -> Windows {
        Windows::read(Some(&Maintenance {
            windows: all.to_vec(),
            freeze: None,
        }))
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn without_windows_it_is_always_open_and_frozen_never() {
        assert_eq!(
            Windows::default().door(at("2026-11-22T00:00:00Z")),
            Door::Open
        );
        let frozen = Maintenance {
            windows: vec![window(&[], "00:00", 24)],
            freeze: Some(true),
        };
        let frozen = Windows::read(Some(&frozen)).unwrap();
        assert_eq!(frozen.door(at("2026-11-22T00:00:00Z")), Door::Frozen);
    }

    #[test]
    fn a_window_over_midnight_goes_on_the_next_day() {
        // The 21st of November 2026 is a Saturday.
        let nights = windows(&[window(&[Day::Saturday], "23:00", 3)]);
        let next = Door::Until(at("2026-11-28T23:00:00Z"));
        for (now, door) in [
            (
                "2026-11-21T22:59:59Z",
                Door::Until(at("2026-11-21T23:00:00Z")),
            ),
            ("2026-11-21T23:00:00Z", Door::Open),
            ("2026-11-22T01:59:59Z", Door::Open),
            ("2026-11-22T02:00:00Z", next),
            ("2026-11-22T23:30:00Z", next),
        ] {
            assert_eq!(nights.door(at(now)), door, "{now}");
        }
    }

    #[test]
    fn what_is_no_window_is_told_by_its_place() {
        for start in ["", "2:30", "24:00", "02:60", "02:30:00", "+2:30", "aa:bb"] {
            let asked = Maintenance {
                windows: vec![window(&[], "02:30", 1), window(&[], start, 0)],
                freeze: None,
            };
            let problems = Windows::read(Some(&asked)).unwrap_err();
            assert_eq!(problems, [WindowProblem::Start(1), WindowProblem::Hours(1)]);
        }
    }

    proptest! {
        #[test]
        fn it_opens_when_it_says_and_not_before(
            seconds in 0..4_000_000_000_i64,
            day in 0..7_usize,
            hour in 0..24,
            minute in 0..60,
            hours in 1..=24,
        ) {
            const DAYS: [Day; 7] = [
                Day::Monday, Day::Tuesday, Day::Wednesday, Day::Thursday, Day::Friday,
                Day::Saturday, Day::Sunday,
            ];
            let all = windows(&[window(&DAYS[day..=day], &format!("{hour:02}:{minute:02}"), hours)]);
            let now = Timestamp::from_second(seconds).unwrap();
            let second = SignedDuration::from_secs(1);
            if let Door::Until(opens) = all.door(now) {
                prop_assert!(opens > now && opens.duration_since(now) <= SignedDuration::from_hours(24 * 7));
                prop_assert_eq!(all.door(opens), Door::Open);
                prop_assert_eq!(all.door(opens - second), Door::Until(opens));
                let length = SignedDuration::from_hours(hours.into());
                prop_assert_eq!(all.door(opens + length - second), Door::Open);
            } else {
                prop_assert_eq!(all.door(now), Door::Open);
            }
        }
    }
}
