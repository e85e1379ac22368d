//! Background tasks by key: one conversation per pod, one probe per set (I/O).
//!
//! A pass says which tasks it wants; each has a token, and a task whose token changed is begun
//! anew. What a task reports is kept, and a report that differs from the one before causes a pass.
//! So engines are watched without polling, and no pass waits for the network.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

struct Kept<T> {
    token: String,
    generation: u64,
    task: AbortHandle,
    last: Option<T>,
}

struct Inner<K, T> {
    kept: HashMap<K, Kept<T>>,
    generations: u64,
}

/// Tasks by key, each with its last report.
pub struct Keeper<K, T>(Arc<Mutex<Inner<K, T>>>);

impl<K, T> Clone for Keeper<K, T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, T> Default for Keeper<K, T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            kept: HashMap::new(),
            generations: 0,
        })))
    }
}

/// Where a task reports to.
pub struct Reporter<K, T> {
    inner: Arc<Mutex<Inner<K, T>>>,
    key: K,
    generation: u64,
}

fn lock<K, T>(inner: &Mutex<Inner<K, T>>) -> MutexGuard<'_, Inner<K, T>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<K: Eq + Hash, T: PartialEq> Reporter<K, T> {
    /// Keep a report. Returns whether it differs from the one before. A task that was replaced
    /// meanwhile reports to nobody.
    pub fn report(&self, report: T) -> bool {
        let mut inner = lock(&self.inner);
        let Some(kept) = inner.kept.get_mut(&self.key) else {
            return false;
        };
        if kept.generation != self.generation {
            return false;
        }
        let differs = kept.last.as_ref() != Some(&report);
        kept.last = Some(report);
        differs
    }
}

impl<K: Clone + Eq + Hash, T: Clone> Keeper<K, T> {
    /// Want a task under `key`. If one with the same token is there, it goes on, also when it has
    /// ended; else `begin` makes the task that takes its place, and the report before is forgotten.
    pub fn want<F>(&self, key: &K, token: &str, begin: impl FnOnce(Reporter<K, T>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.begin(key, token, false, begin);
    }

    /// Like [`Self::want`], but the report of the task before stands until there is a new one.
    pub fn want_on<F>(&self, key: &K, token: &str, begin: impl FnOnce(Reporter<K, T>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.begin(key, token, true, begin);
    }

    fn begin<F>(&self, key: &K, token: &str, stands: bool, begin: impl FnOnce(Reporter<K, T>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut inner = lock(&self.0);
        if inner.kept.get(key).is_some_and(|kept| kept.token == token) {
            return;
        }
        inner.generations += 1;
        let generation = inner.generations;
        let task = tokio::spawn(begin(Reporter {
            inner: Arc::clone(&self.0),
            key: key.clone(),
            generation,
        }));
        let kept = Kept {
            token: token.to_owned(),
            generation,
            task: task.abort_handle(),
            last: inner
                .kept
                .get(key)
                .and_then(|old| old.last.clone())
                .filter(|_| stands),
        };
        if let Some(old) = inner.kept.insert(key.clone(), kept) {
            old.task.abort();
        }
    }

    /// End every task whose key is not wanted any more.
    pub fn retain(&self, wanted: impl Fn(&K) -> bool) {
        lock(&self.0).kept.retain(|key, kept| {
            let keep = wanted(key);
            if !keep {
                kept.task.abort();
            }
            keep
        });
    }

    /// End the task under `key` and forget it.
    pub fn forget(&self, key: &K) {
        if let Some(old) = lock(&self.0).kept.remove(key) {
            old.task.abort();
        }
    }

    /// The last report under `key`.
    pub fn last(&self, key: &K) -> Option<T> {
        lock(&self.0).kept.get(key)?.last.clone()
    }

    /// Whether there is a task under `key` that has not ended.
    pub fn runs(&self, key: &K) -> bool {
        let inner = lock(&self.0);
        inner
            .kept
            .get(key)
            .is_some_and(|kept| !kept.task.is_finished())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_is_begun_anew_only_when_its_token_changes() {
        let keeper: Keeper<&str, u32> = Keeper::default();
        let begin = |report: u32| {
            move |to: Reporter<&'static str, u32>| async move {
                to.report(report);
                std::future::pending::<()>().await;
            }
        };
        keeper.want(&"a", "1", begin(1));
        keeper.want(&"a", "1", begin(2));
        tokio::task::yield_now().await;
        assert_eq!(keeper.last(&"a"), Some(1));
        keeper.want(&"a", "2", begin(3));
        assert_eq!(
            keeper.last(&"a"),
            None,
            "an old report is not taken for a new one"
        );
        tokio::task::yield_now().await;
        assert_eq!(keeper.last(&"a"), Some(3));
        keeper.retain(|_| false);
        assert_eq!(keeper.last(&"a"), None);
    }

    #[tokio::test]
    async fn the_same_report_again_is_no_news() {
        let keeper: Keeper<&str, u32> = Keeper::default();
        let (told, mut news) = tokio::sync::mpsc::unbounded_channel();
        keeper.want(&"a", "1", |to| async move {
            for report in [1, 1, 2] {
                let _ = told.send(to.report(report));
            }
        });
        assert_eq!(news.recv().await, Some(true));
        assert_eq!(news.recv().await, Some(false));
        assert_eq!(news.recv().await, Some(true));
    }
}
