//! Sizes, times and conditions in words. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What stands where nothing is known.
pub const NONE: &str = "-";

/// Bytes as people read them, for example `1.4 GiB`.
pub fn size(bytes: i64) -> String {
    let bytes = u64::try_from(bytes).unwrap_or(0);
    indicatif::BinaryBytes(bytes).to_string()
}

/// A moment to the second, in UTC.
pub fn moment(time: &Time) -> String {
    time.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// How long ago in one unit, as `kubectl` does: `5m`, `3h`, `12d`.
pub fn age(time: &Time, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(time.0.as_second()).max(0);
    span(seconds)
}

/// Seconds in one unit.
pub fn span(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A condition by its type.
pub fn condition<'a>(all: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    all.iter().find(|c| c.type_ == kind)
}

/// What is known, else [`NONE`].
pub fn or_none(what: Option<impl Into<String>>) -> String {
    what.map_or_else(|| NONE.to_owned(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_in_the_largest_unit_that_says_enough() {
        for (seconds, word) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (7_199, "119m"),
            (7_200, "2h"),
            (172_799, "47h"),
            (172_800, "2d"),
        ] {
            assert_eq!(span(seconds), word);
        }
        let now = Timestamp::UNIX_EPOCH;
        let later = Time("1970-01-01T00:00:09Z".parse().unwrap());
        assert_eq!(age(&later, now), "0s", "clocks differ");
    }

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size(1 << 30), "1.00 GiB");
        assert_eq!(size(-1), "0 B");
    }
}
