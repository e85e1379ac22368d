//! What real servers at hand do not do: ignore the condition of a write, or not know it.

use std::fmt;

use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetResult, ListResult, MultipartUpload, PutMultipartOptions, PutResult, Result,
};

use super::*;

/// How a store treats "only if there is none".
#[derive(Debug, Clone, Copy)]
enum Condition {
    Ignored,
    Unknown,
    AnsweredAndIgnored,
}

#[derive(Debug)]
struct Careless {
    inner: InMemory,
    condition: Condition,
}

impl fmt::Display for Careless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("careless")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Careless {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if options.mode != PutMode::Create {
            return self.inner.put_opts(at, payload, options).await;
        }
        let there = self.inner.head(at).await.is_ok();
        match self.condition {
            Condition::Unknown => Err(object_store::Error::NotImplemented {
                operation: "conditional writes".into(),
                implementer: self.to_string(),
            }),
            Condition::Ignored => self.inner.put(at, payload).await,
            Condition::AnsweredAndIgnored => {
                let put = self.inner.put(at, payload).await;
                if there {
                    return Err(object_store::Error::AlreadyExists {
                        path: at.to_string(),
                        source: "there is one".into(),
                    });
                }
                put
            }
        }
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
        self.inner.delete_stream(all)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn store(condition: Condition) -> Store {
    let careless = Careless {
        inner: InMemory::new(),
        condition,
    };
    Store::of(Arc::new(careless), None)
}

#[tokio::test]
async fn a_store_that_does_not_guard_is_known() {
    for (condition, expected) in [
        (Condition::Ignored, "it let a key be written twice"),
        (Condition::AnsweredAndIgnored, "did it all the same"),
        (Condition::Unknown, "does not know conditional writes"),
    ] {
        let store = store(condition);
        let guard = store.guard("probe/1").await.unwrap();
        let Guard::Unguarded { why } = guard else {
            panic!("{condition:?} counts as guarded");
        };
        assert!(why.contains(expected), "{condition:?}: {why}");
        assert_eq!(store.list("").await.unwrap(), [], "the probe stays");
    }
}

#[tokio::test]
async fn where_immutability_is_asked_for_such_a_store_is_refused() {
    use crate::crypto::Protection;
    use crate::ids::OwnerId;
    use crate::owner::Claim;
    use crate::repository::{ClaimError, Repository};

    let claim = Claim {
        owner: OwnerId::new([1; 16]),
        resource: "shop/db".into(),
        adopt: None,
    };
    let now = Timestamp::UNIX_EPOCH;
    let repository = Repository::new(store(Condition::Ignored), Protection::Plain);
    let error = repository
        .claim(&claim, true, now, [1; 8])
        .await
        .unwrap_err();
    assert!(matches!(error, ClaimError::Unguarded { .. }), "{error}");
    assert_eq!(repository.store().list("").await.unwrap(), []);
    let owned = repository.claim(&claim, false, now, [1; 8]).await.unwrap();
    assert!(matches!(owned.guard, Guard::Unguarded { .. }));
}

#[tokio::test]
async fn without_conditions_nothing_of_ours_overwrites_all_the_same() {
    let store = store(Condition::Unknown);
    store.guard("probe/1").await.unwrap();
    let text = Bytes::from_static;
    store.create("a", text(b"first")).await.unwrap();
    store.create("a", text(b"first")).await.unwrap();
    let error = store.create("a", text(b"other")).await.unwrap_err();
    assert_eq!(error.reason, Reason::Exists);
    assert_eq!(store.read("a", None, 64).await.unwrap().0, "first");
}
