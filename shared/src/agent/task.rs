//! Something that goes on beside a loop, or nothing.

use std::future::pending;
use std::pin::Pin;

/// It.
pub type Task<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Its end; never where there is none.
pub async fn finished<T>(task: Option<&mut Task<T>>) -> T {
    match task {
        Some(task) => task.await,
        None => pending().await,
    }
}
