//! What is written once and was replaced or deleted all the same, in a store that keeps versions: the oldest counts.

use std::sync::PoisonError;

use serde::de::DeserializeOwned;

use super::{RECORD, Repository};
use crate::layout;
use crate::pieces::PieceKey;
use crate::store::{StoreError, Version};
use crate::stream::GetError;

impl Repository {
    /// Of a piece that is damaged or deleted in a store that keeps versions: the oldest version that is whole.
    pub async fn good_version(&self, key: &PieceKey) -> Result<Option<String>, GetError> {
        for version in self.oldest_first(&layout::piece(key)).await? {
            match self
                .read_piece(key, Some(&version.id), &mut tokio::io::sink())
                .await
            {
                Ok(_) => return Ok(Some(version.id)),
                Err(GetError::Damaged { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        Ok(None)
    }

    /// Of an object that is written once, and was replaced in a store that keeps versions: what the oldest version says
    /// that `taken` takes.
    pub(crate) async fn older<T>(
        &self,
        key: &str,
        limit: usize,
        taken: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, StoreError> {
        // Who may not list versions reads what there is, as before.
        let told = async {
            if self.store.keeps_versions().await? {
                self.oldest_first(key).await
            } else {
                Ok(Vec::new())
            }
        };
        let versions = match told.await {
            Ok(versions) => versions,
            Err(error) if error.reason.passes() => return Err(error),
            Err(_) => return Ok(None),
        };
        for version in versions {
            match self.store.read(key, Some(&version.id), limit).await {
                Ok((bytes, _)) => {
                    if let Some(found) = taken(&bytes) {
                        if self.is_news(key) {
                            let version = version.id;
                            tracing::warn!(
                                key,
                                version,
                                "it was replaced: the oldest version counts"
                            );
                        }
                        return Ok(Some(found));
                    }
                }
                Err(error) if error.reason.passes() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Reads a record that is written once; none if it is not understood. Where the store keeps versions, one that was
    /// replaced by what is not understood is read all the same.
    pub(crate) async fn read_first<T: DeserializeOwned>(
        &self,
        key: &str,
    ) -> Result<Option<T>, StoreError> {
        match self.read_json(key).await? {
            Some(record) => Ok(Some(record)),
            None => {
                self.older(key, RECORD, |bytes| serde_json::from_slice(bytes).ok())
                    .await
            }
        }
    }

    /// Versions that hold a content, the oldest first.
    async fn oldest_first(&self, key: &str) -> Result<Vec<Version>, StoreError> {
        let mut versions = self.store.versions(key).await?;
        versions.retain(|version| !version.marker);
        versions.reverse();
        Ok(versions)
    }

    /// Whether it was not asked before of this key: catalogues are read again and again.
    pub(super) fn is_news(&self, key: &str) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.insert(key.to_owned())
    }
}
