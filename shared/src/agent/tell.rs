//! Telling whoever watches a value only what is news.

use tokio::sync::watch;

use super::api::{Status, Volume};

/// Put the value in; who watches hears of it only if it is another one.
pub fn set<T: PartialEq>(told: &watch::Sender<T>, value: T) {
    told.send_if_modified(|old| {
        let changed = *old != value;
        *old = value;
        changed
    });
}

/// Tell a status. Its sequence grows by what is worth telling; who watches hears of everything.
pub fn status(told: &watch::Sender<Status>, mut new: Status) {
    told.send_if_modified(|old| {
        new.sequence = old.sequence + u64::from(differs(old, &new));
        let changed = new != *old;
        *old = new;
        changed
    });
}

/// Whether the difference is worth telling: what moves all the time is not.
fn differs(old: &Status, new: &Status) -> bool {
    let still = |s: &Status| Status {
        sequence: 0,
        position: None,
        // By powers of two of MiB, and at once when it becomes known: whoever is told of something
        // else later learns nothing new of it then.
        lag_bytes: s
            .lag_bytes
            .map(|lag| u64::from(u64::BITS - (lag >> 20).leading_zeros())),
        // Twentieths: growth is told, every written page is not.
        volume: s.volume.map(|v| Volume {
            size: v.size,
            free: (v.free * 20).checked_div(v.size).unwrap_or(0),
        }),
        ..s.clone()
    };
    still(old) != still(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moving_position_is_no_news() {
        let old = Status {
            position: Some(1),
            lag_bytes: Some(0),
            volume: Some(Volume {
                size: 100,
                free: 50,
            }),
            ..Status::default()
        };
        let mut new = Status {
            position: Some(2),
            lag_bytes: Some(3),
            ..old.clone()
        };
        new.volume = Some(Volume {
            size: 100,
            free: 51,
        });
        assert!(!differs(&old, &new));
        new.lag_bytes = Some(5 << 20);
        assert!(differs(&old, &new));
        let lags = |lag| Status {
            lag_bytes: lag,
            ..old.clone()
        };
        assert!(differs(&lags(None), &lags(Some(0))), "it has become known");
        assert!(!differs(&lags(Some(4 << 20)), &lags(Some(5 << 20))));
        new.lag_bytes = old.lag_bytes;
        new.ready = true;
        assert!(differs(&old, &new));
    }
}
