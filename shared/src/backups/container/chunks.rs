//! Chunks that come over a channel, as something to read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// A chunk, or why there is no more.
pub type Chunk = io::Result<Vec<u8>>;

/// Reads chunks.
#[derive(Debug)]
pub struct Chunks {
    queue: mpsc::Receiver<Chunk>,
    chunk: Vec<u8>,
    taken: usize,
}

impl Chunks {
    /// From a channel.
    pub fn new(queue: mpsc::Receiver<Chunk>) -> Self {
        Self {
            queue,
            chunk: Vec::new(),
            taken: 0,
        }
    }
}

impl AsyncRead for Chunks {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.taken >= self.chunk.len() {
            match ready!(self.queue.poll_recv(context)) {
                Some(Ok(chunk)) => {
                    self.chunk = chunk;
                    self.taken = 0;
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        let take = into.remaining().min(self.chunk.len() - self.taken);
        into.put_slice(&self.chunk[self.taken..self.taken + take]);
        self.taken += take;
        Poll::Ready(Ok(()))
    }
}
