//! A value that is shared until it changes, and hashed once.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// The value with its hash. Two with one hash count as equal: as the explorer itself does with whole
/// states.
#[derive(Clone, Debug)]
pub struct Cached<T> {
    hash: u64,
    value: Arc<T>,
}

impl<T: Hash + Clone> Cached<T> {
    pub fn new(value: T) -> Self {
        let mut cached = Self {
            hash: 0,
            value: Arc::new(value),
        };
        cached.seal();
        cached
    }

    /// To change it; [`Cached::seal`] must follow.
    pub fn change(&mut self) -> &mut T {
        self.hash = 0;
        Arc::make_mut(&mut self.value)
    }

    /// After changes.
    pub fn seal(&mut self) {
        if self.hash == 0 {
            let mut hasher = DefaultHasher::new();
            self.value.hash(&mut hasher);
            self.hash = hasher.finish().max(1);
        }
    }
}

impl<T> std::ops::Deref for Cached<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> PartialEq for Cached<T> {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

impl<T> Eq for Cached<T> {}

impl<T> PartialOrd for Cached<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Cached<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.hash.cmp(&other.hash)
    }
}

impl<T> Hash for Cached<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}
