//! What is stored as a piece of the log.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::AsyncRead;

use crate::crypto::{Digest, Digester};

/// A piece of the log up to this size is held in memory, so that it is read once. Several are stored at a time: what is
/// larger is read twice, and stored only if it has the digest of the first time.
const HELD: u64 = 1 << 20;
/// Bytes that are read at a time for a digest.
const CHUNK: usize = 128 << 10;

/// What to store as a piece.
#[derive(Debug, Clone)]
pub enum Content<'a> {
    /// A file, which nobody changes any more.
    File(&'a Path),
    /// Bytes.
    Bytes(Bytes),
}

/// Something to read.
pub(super) type Reading = Pin<Box<dyn AsyncRead + Send>>;

impl Content<'_> {
    /// Small files become bytes, so that they are read once.
    pub(super) async fn held(self) -> io::Result<Self> {
        match self {
            Self::File(path) if tokio::fs::metadata(path).await?.len() <= HELD => {
                Ok(Self::Bytes(tokio::fs::read(path).await?.into()))
            }
            other => Ok(other),
        }
    }

    pub(super) async fn open(&self) -> io::Result<Reading> {
        Ok(match self {
            Self::File(path) => Box::pin(tokio::fs::File::open(path).await?),
            Self::Bytes(bytes) => Box::pin(io::Cursor::new(bytes.clone())),
        })
    }

    /// A file is read in a thread of its own: asking for a chunk and waiting for it costs more than reading it.
    pub(super) async fn digest(&self, mut digester: Digester) -> io::Result<Digest> {
        let path = match self {
            Self::Bytes(bytes) => {
                digester.update(bytes);
                return Ok(digester.finish());
            }
            Self::File(path) => path.to_path_buf(),
        };
        let reading = tokio::task::spawn_blocking(move || {
            let (mut file, mut chunk) = (File::open(path)?, vec![0; CHUNK]);
            loop {
                match file.read(&mut chunk) {
                    Ok(0) => return Ok(digester.finish()),
                    Ok(read) => digester.update(&chunk[..read]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        });
        reading.await.map_err(io::Error::other)?
    }
}
