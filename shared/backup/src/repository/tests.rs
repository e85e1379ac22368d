//! A file of the log that becomes another one while it is stored.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::*;
use crate::pieces::PieceKind;

/// A store in whose list somebody changes a file, and which keeps everything.
#[derive(Debug, Default)]
struct Changing {
    inner: InMemory,
    /// What is moved where with the next list.
    next: Mutex<Option<(PathBuf, PathBuf)>>,
    /// Uploads in parts that have neither ended nor been given up.
    open: AtomicUsize,
    given_up: AtomicUsize,
}

impl fmt::Display for Changing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("changing")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Changing {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        all: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let locked = |path: Result<Path>| -> Result<Path> {
            Err(object_store::Error::PermissionDenied {
                path: path?.to_string(),
                source: "a lock keeps it".into(),
            })
        };
        all.map(locked).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        if let Some((from, to)) = self.next.lock().unwrap().take() {
            std::fs::rename(from, to).unwrap();
        }
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait::async_trait]
impl MultipartStore for Changing {
    async fn create_multipart(&self, at: &Path) -> Result<String> {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.inner.create_multipart(at).await
    }

    async fn put_part(
        &self,
        at: &Path,
        id: &String,
        index: usize,
        payload: PutPayload,
    ) -> Result<PartId> {
        self.inner.put_part(at, id, index, payload).await
    }

    async fn complete_multipart(
        &self,
        at: &Path,
        id: &String,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.inner.complete_multipart(at, id, parts).await
    }

    async fn abort_multipart(&self, at: &Path, id: &String) -> Result<()> {
        self.inner.abort_multipart(at, id).await?;
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.given_up.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

async fn put(repository: &Repository, content: Content<'_>) -> Result<PieceOutcome, WriteError> {
    let owned = Owned {
        owner: OwnerId::new([1; 16]),
        number: 1,
        guard: Guard::Guarded,
    };
    let writer = repository.writer(owned);
    let (history, piece) = ("1-aa".parse().unwrap(), "000001".parse().unwrap());
    writer
        .put_piece(&history, &piece, PieceKind::Whole, content)
        .await
}

/// Stores a file of `before`, which holds `after` when it is opened again.
async fn changes(in_parts: bool, before: &[u8], after: &[u8]) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let (path, other) = (folder.path().join("piece"), folder.path().join("other"));
    std::fs::write(&path, before).unwrap();
    std::fs::write(&other, after).unwrap();
    let changing = Arc::new(Changing::default());
    *changing.next.lock().unwrap() = Some((other, path.clone()));
    let parts: Option<Arc<dyn MultipartStore>> = in_parts.then(|| Arc::clone(&changing) as _);
    let store = Store::of(Arc::clone(&changing) as _, parts);
    let repository = Repository::new(store, Protection::Plain);

    let error = put(&repository, Content::File(&path)).await.unwrap_err();
    assert!(matches!(error, WriteError::Changed { .. }), "{error}");
    assert_eq!(repository.store().list("").await.unwrap(), []);
    let given_up = async {
        while changing.open.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), given_up).await;
    waited.expect("an upload stays");

    // Each content is stored under its own digest, and the first one was never taken for stored.
    let first = Content::Bytes(Bytes::copy_from_slice(before));
    for content in [Content::File(&path), first] {
        let expected = match &content {
            Content::File(_) => after,
            Content::Bytes(_) => before,
        };
        let key = match put(&repository, content).await.unwrap() {
            PieceOutcome::Stored(key) | PieceOutcome::Diverged { new: key, .. } => key,
            PieceOutcome::There(key) => panic!("{key:?} counts as stored"),
        };
        let mut back = Vec::new();
        repository.read_piece(&key, None, &mut back).await.unwrap();
        assert!(back == expected);
    }
    changing.given_up.load(Ordering::SeqCst)
}

#[tokio::test]
async fn what_the_path_of_a_piece_holds_by_then_is_not_stored_under_the_first_digest() {
    // In parts, as one, and shorter than it was.
    let (before, after) = (noise(14 << 20), noise(14 << 20));
    assert_eq!(changes(true, &before, &after).await, 1);
    assert_eq!(changes(false, &before, &after).await, 0);
    assert_eq!(changes(true, &before, &after[..13 << 20]).await, 1);
    let (before, after) = (vec![1; 2 << 20], vec![2; 2 << 20]);
    assert_eq!(changes(true, &before, &after).await, 0);
    assert_eq!(changes(true, &before, &[]).await, 0);
}

#[test]
fn an_object_that_was_replaced_is_told_once() {
    let repository = Repository::new(
        Store::of(Arc::new(InMemory::new()), None),
        Protection::Plain,
    );
    assert!(repository.is_news("a") && repository.is_news("b"));
    assert!(!repository.is_news("a"), "it is told again and again");
}
