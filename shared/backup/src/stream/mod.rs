//! Contents of any size, through the store and back, in bounded memory.
//!
//! On the way in: digest of the plain bytes, zstd, age, digest of the stored bytes, parts of 6 MiB that are
//! sent several at a time. On the way out the same backwards; a connection that breaks is taken up where
//! it broke. Compression and encryption work on a thread of their own, which waits when the network is
//! slower, and whom the network waits for.

mod codec;
mod get;
mod put;

pub use get::{GetError, Getting};
pub use put::{Progress, PutError, Putting, SPLIT, Stored};

/// Bytes of plain content that are handed on at a time.
const CHUNK: usize = 128 << 10;
/// Chunks that wait on their way.
const WAITING: usize = 4;
