//! When something is due, in cron's five fields, in UTC. Pure.

use std::ops::RangeInclusive;

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use sha2::{Digest, Sha256};

/// Minutes of a day.
const DAY: u16 = 24 * 60;
/// Days after which a schedule that is ever due was due: from one 29 February to the next it may be eight
/// years.
const HORIZON: u32 = 366 * 8 + 2;

/// Why a text is no schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CronError {
    /// It is not five fields of numbers in their bounds.
    Syntax,
    /// No day is ever like that, for example the 31st of February.
    Never,
}

/// A schedule.
///
/// Guarantee: it is due again and again, with at most eight years in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u32,
    days: u32,
    months: u16,
    /// Sunday is bit 0.
    weekdays: u8,
    /// Both days of the month and days of the week are restricted: then one of them is enough.
    either: bool,
}

impl Cron {
    /// From its text: minute, hour, day of the month, month, day of the week.
    ///
    /// # Errors
    /// It is none, or never due.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let fields: Vec<&str> = text.split(' ').collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(CronError::Syntax);
        };
        let bits = |text, range| field(text, range).ok_or(CronError::Syntax);
        let narrow = |_| CronError::Syntax;
        let weekdays = bits(weekday, 0..=7)?;
        let this = Self {
            minutes: bits(minute, 0..=59)?,
            hours: u32::try_from(bits(hour, 0..=23)?).map_err(narrow)?,
            days: u32::try_from(bits(day, 1..=31)?).map_err(narrow)?,
            months: u16::try_from(bits(month, 1..=12)?).map_err(narrow)?,
            // Sunday is 0 and 7.
            weekdays: u8::try_from((weekdays | weekdays >> 7) & 0x7f).map_err(narrow)?,
            either: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        let ever = this.next_day(Date::constant(2000, 1, 1)).is_some();
        if ever {
            Ok(this)
        } else {
            Err(CronError::Never)
        }
    }

    /// Once a day, at a minute that `key` decides, so that not everybody is due at once.
    pub fn daily(key: &str) -> Self {
        let digest = Sha256::digest(key.as_bytes());
        let minute = u16::from_be_bytes([digest[0], digest[1]]) % DAY;
        Self {
            minutes: 1 << (minute % 60),
            hours: 1 << (minute / 60),
            days: u32::MAX,
            months: u16::MAX,
            weekdays: u8::MAX,
            either: false,
        }
    }

    /// Once a week, at a day and minute that `key` decides.
    pub fn weekly(key: &str) -> Self {
        let digest = Sha256::digest(key.as_bytes());
        Self {
            weekdays: 1 << (digest[2] % 7),
            ..Self::daily(key)
        }
    }

    /// When it was due last: at or before `now`.
    pub fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_zoned(TimeZone::UTC).datetime();
        let mut date = now.date();
        let mut most = minute_of(now);
        for _ in 0..HORIZON {
            if self.has_day(date)
                && let Some(minute) = (0..=most).rev().find(|m| self.has_minute(*m))
            {
                return at(date, minute);
            }
            date = date.yesterday().ok()?;
            most = DAY - 1;
        }
        None
    }

    /// When it is due next: after `now`.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let now = now.to_zoned(TimeZone::UTC).datetime();
        let mut date = now.date();
        let mut least = minute_of(now) + 1;
        for _ in 0..HORIZON {
            if self.has_day(date)
                && let Some(minute) = (least..DAY).find(|m| self.has_minute(*m))
            {
                return at(date, minute);
            }
            date = date.tomorrow().ok()?;
            least = 0;
        }
        None
    }

    /// The most days from one day on which it is due to the next, in the four years after `from`.
    pub fn widest_gap(&self, from: Timestamp) -> u32 {
        let end = from.checked_add((4 * 366 * 24).hours()).unwrap_or(from);
        let end = end.to_zoned(TimeZone::UTC).date();
        let mut widest = 1;
        let mut date = from.to_zoned(TimeZone::UTC).date();
        while date < end
            && let Ok(tomorrow) = date.tomorrow()
            && let Some(next) = self.next_day(tomorrow)
        {
            let days = next.since(date).map_or(0, |span| span.get_days());
            widest = widest.max(u32::try_from(days).unwrap_or(0));
            date = next;
        }
        widest
    }

    /// The first day from `date` on, that one included, on which it is due.
    fn next_day(&self, mut date: Date) -> Option<Date> {
        for _ in 0..HORIZON {
            if self.has_day(date) {
                return Some(date);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn has_minute(&self, minute: u16) -> bool {
        self.hours >> (minute / 60) & 1 == 1 && self.minutes >> (minute % 60) & 1 == 1
    }

    fn has_day(&self, date: Date) -> bool {
        let day = self.days >> date.day() & 1 == 1;
        let weekday = self.weekdays >> date.weekday().since(Weekday::Sunday) & 1 == 1;
        let wanted = if self.either {
            day || weekday
        } else {
            day && weekday
        };
        wanted && self.months >> date.month() & 1 == 1
    }
}

fn minute_of(time: DateTime) -> u16 {
    // Neither is ever negative.
    u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs())
}

fn at(date: Date, minute: u16) -> Option<Timestamp> {
    let hour = i8::try_from(minute / 60).ok()?;
    let minute = i8::try_from(minute % 60).ok()?;
    let zoned = date.at(hour, minute, 0, 0).to_zoned(TimeZone::UTC).ok()?;
    Some(zoned.timestamp())
}

/// The numbers of a field, as bits.
fn field(text: &str, range: RangeInclusive<u32>) -> Option<u64> {
    let mut bits = 0;
    for item in text.split(',') {
        let (numbers, step) = match item.split_once('/') {
            Some((numbers, step)) => (numbers, number(step)?),
            None => (item, 1),
        };
        let (first, last) = match numbers.split_once('-') {
            _ if numbers == "*" => (*range.start(), *range.end()),
            Some((first, last)) => (number(first)?, number(last)?),
            // With a step a single number is the first of all that follow.
            None if item.contains('/') => (number(numbers)?, *range.end()),
            None => (number(numbers)?, number(numbers)?),
        };
        if step == 0 || first > last || !range.contains(&first) || !range.contains(&last) {
            return None;
        }
        let step = usize::try_from(step).ok()?;
        for number in (first..=last).step_by(step) {
            bits |= 1 << number;
        }
    }
    Some(bits)
}

/// One or two digits.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn around(cron: &str, now: &str) -> (String, String) {
        let cron = Cron::parse(cron).unwrap();
        let now = time(now);
        (
            cron.last(now).unwrap().to_string(),
            cron.next(now).unwrap().to_string(),
        )
    }

    #[test]
    fn before_and_after() {
        for (cron, now, last, next) in [
            (
                "30 2 * * *",
                "2026-03-01T02:30:59Z",
                "2026-03-01T02:30:00Z",
                "2026-03-02T02:30:00Z",
            ),
            (
                "30 2 * * *",
                "2026-03-01T02:29:59Z",
                "2026-02-28T02:30:00Z",
                "2026-03-01T02:30:00Z",
            ),
            // The 28th of November 2026 is a Saturday.
            (
                "0 4 * * 0",
                "2026-11-28T12:00:00Z",
                "2026-11-22T04:00:00Z",
                "2026-11-29T04:00:00Z",
            ),
            (
                "0 4 * * 7",
                "2026-11-28T12:00:00Z",
                "2026-11-22T04:00:00Z",
                "2026-11-29T04:00:00Z",
            ),
            (
                "0 4 1 * 7",
                "2026-11-28T12:00:00Z",
                "2026-11-22T04:00:00Z",
                "2026-11-29T04:00:00Z",
            ),
            (
                "0 4 1 * 7",
                "2026-11-30T12:00:00Z",
                "2026-11-29T04:00:00Z",
                "2026-12-01T04:00:00Z",
            ),
            (
                "*/20 8-9,22 * * *",
                "2026-01-01T09:41:00Z",
                "2026-01-01T09:40:00Z",
                "2026-01-01T22:00:00Z",
            ),
            (
                "10/20 * * * *",
                "2026-01-01T00:00:00Z",
                "2025-12-31T23:50:00Z",
                "2026-01-01T00:10:00Z",
            ),
            (
                "0 0 29 2 *",
                "2026-01-01T00:00:00Z",
                "2024-02-29T00:00:00Z",
                "2028-02-29T00:00:00Z",
            ),
        ] {
            assert_eq!(
                around(cron, now),
                (last.into(), next.into()),
                "{cron} at {now}"
            );
        }
    }

    #[test]
    fn what_is_none() {
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 0 *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "1,,2 * * * *",
            "+1 * * * *",
            "001 * * * *",
            "*  * * * *",
            "@daily",
            "* * * * MON",
        ] {
            assert_eq!(Cron::parse(bad), Err(CronError::Syntax), "{bad}");
        }
        for never in ["0 0 31 2 *", "0 0 31 4,6,9,11 *", "0 0 30 2 *"] {
            assert_eq!(Cron::parse(never), Err(CronError::Never), "{never}");
        }
        // One of the two days is enough.
        assert!(Cron::parse("0 0 31 2 1").is_ok());
    }

    #[test]
    fn not_everybody_is_due_at_once() {
        let now = time("2026-01-01T00:00:00Z");
        let due = |uid: &str| Cron::daily(uid).next(now);
        assert_ne!(due("a"), due("b"));
        assert_eq!(due("a"), due("a"));
        assert_eq!(Cron::daily("a").widest_gap(now), 1);
        for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            assert_eq!(Cron::weekly(key).widest_gap(now), 7);
        }
        assert_ne!(Cron::weekly("a").next(now), Cron::weekly("b").next(now));
    }

    #[test]
    fn the_widest_gap_in_days() {
        let now = time("2026-01-01T00:00:00Z");
        let gap = |cron: &str| Cron::parse(cron).unwrap().widest_gap(now);
        assert_eq!(gap("0 4 * * 1-5"), 3);
        assert_eq!(gap("0 4 * * 0"), 7);
        assert_eq!(gap("0 4 1 * *"), 31);
    }

    proptest! {
        #[test]
        fn last_and_next_are_neighbours(
            minute in 0_u32..60, hour in 0_u32..24, weekday in 0_u32..7, second in 0_i64..4_000_000_000,
        ) {
            let cron = Cron::parse(&format!("{minute} {hour} * * {weekday}")).unwrap();
            let now = Timestamp::from_second(second).unwrap();
            let (last, next) = (cron.last(now).unwrap(), cron.next(now).unwrap());
            prop_assert!(last <= now && now < next);
            prop_assert_eq!(next.duration_since(last).as_hours(), 7 * 24);
            prop_assert_eq!(cron.next(last), Some(next));
            prop_assert_eq!(cron.last(next), Some(next));
        }
    }
}
