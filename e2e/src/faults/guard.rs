//! What is undone at the latest when it is dropped.

use futures::future::BoxFuture;

use super::FaultError;

type Action<'a> = Box<dyn FnOnce() -> BoxFuture<'a, Result<(), FaultError>> + Send + 'a>;

/// A fault that lasts until it is undone, or dropped.
#[must_use = "a fault that is dropped at once is undone at once"]
pub struct Undo<'a> {
    what: String,
    action: Option<Action<'a>>,
}

impl<'a> Undo<'a> {
    /// `what` is the fault in words; `action` undoes it.
    pub fn new<F>(what: impl Into<String>, action: F) -> Self
    where
        F: FnOnce() -> BoxFuture<'a, Result<(), FaultError>> + Send + 'a,
    {
        Self {
            what: what.into(),
            action: Some(Box::new(action)),
        }
    }

    /// Undoes it now.
    ///
    /// # Errors
    /// It cannot be undone; it is not tried again.
    pub async fn undo(mut self) -> Result<(), FaultError> {
        match self.action.take() {
            Some(action) => action().await,
            None => Ok(()),
        }
    }

    /// Leaves it as it is, for ever.
    pub fn keep(mut self) {
        self.action = None;
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        let Some(action) = self.action.take() else {
            return;
        };
        // Dropping cannot wait for a future, and the runtime around may be the one that is ending:
        // a thread with a runtime of its own can.
        let undone = std::thread::scope(|scope| {
            let undo = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                let runtime = runtime.map_err(|source| FaultError::Process {
                    what: "runtime".into(),
                    source,
                })?;
                runtime.block_on(action())
            });
            undo.join()
                .unwrap_or_else(|_| Err(FaultError::Nothing("the thread panicked".into())))
        });
        if let Err(error) = undone {
            tracing::error!(fault = self.what, %error, "a fault could not be undone");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_fault_is_undone_exactly_once() {
        let undone = AtomicUsize::new(0);
        let fault = || {
            Undo::new("test", || {
                Box::pin(async {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                    undone.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })
            })
        };
        fault().undo().await.unwrap();
        assert_eq!(undone.load(Ordering::SeqCst), 1);
        drop(fault());
        assert_eq!(undone.load(Ordering::SeqCst), 2);
        fault().keep();
        assert_eq!(undone.load(Ordering::SeqCst), 2);
    }
}
