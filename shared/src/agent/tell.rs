//! Telling whoever watches a value only what is news.

use tokio::sync::watch;

/// Put the value in; who watches hears of it only if it is another one.
pub fn set<T: PartialEq>(told: &watch::Sender<T>, value: T) {
    told.send_if_modified(|old| {
        let changed = *old != value;
        *old = value;
        changed
    });
}
