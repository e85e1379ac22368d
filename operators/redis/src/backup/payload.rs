//! The dataset as Redis sends it to a replica: framed, and checked on its way. Pure.
//!
//! What goes out of memory without a file has no length: it ends with forty bytes that were told before. What is sent of
//! a file has one. Either way it is a snapshot (RDB): its first bytes say so, and its last are a CRC-64 of the rest.

use crc_fast::{CrcAlgorithm, Digest};

/// Bytes that end a payload without a length.
pub const MARK: usize = 40;
/// The last bytes of a snapshot: the one that ends it, and the checksum.
const END: usize = 9;
/// What ends it.
const EOF: u8 = 0xFF;
/// What snapshots begin with, and how many bytes that are with the version.
const BEGINS: [&[u8]; 2] = [b"REDIS", b"VALKEY"];
const HEAD: usize = 9;

/// How long a payload is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// So many bytes.
    Sized(u64),
    /// Up to these.
    Until([u8; MARK]),
}

/// What is said of a payload before it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The whole dataset comes, as it is at this place in the history.
    Whole {
        /// Replication id.
        replid: String,
        /// Offset.
        offset: u64,
    },
    /// The payload comes.
    Payload(Frame),
}

/// A line that comes before the payload.
///
/// # Errors
/// A refusal, or what no engine says: a sentence.
pub fn line(text: &str) -> Result<Line, String> {
    let strange = || {
        format!(
            "it answered `{}`",
            text.chars().take(80).collect::<String>()
        )
    };
    if let Some(why) = text.strip_prefix('-') {
        return Err(format!("it refuses to send its dataset: {why}"));
    }
    if let Some(rest) = text.strip_prefix("+FULLRESYNC ") {
        let place = rest.split_once(' ');
        let place = place.and_then(|(id, offset)| Some((id, offset.trim().parse().ok()?)));
        let (replid, offset) = place.ok_or_else(strange)?;
        return Ok(Line::Whole {
            replid: replid.to_owned(),
            offset,
        });
    }
    if let Some(mark) = text.strip_prefix("$EOF:") {
        let mark = mark.as_bytes().try_into().map_err(|_| strange())?;
        return Ok(Line::Payload(Frame::Until(mark)));
    }
    let size = text.strip_prefix('$').and_then(|n| n.parse().ok());
    let size = size.ok_or_else(strange)?;
    Ok(Line::Payload(Frame::Sized(size)))
}

/// A payload that comes in.
#[derive(Debug)]
pub struct Payload {
    frame: Frame,
    /// Bytes that may be the mark's.
    held: Vec<u8>,
    /// Bytes that were given.
    given: u64,
    whole: bool,
    checker: Checker,
}

impl Payload {
    /// Nothing has come yet.
    pub fn new(frame: Frame) -> Self {
        let whole = frame == Frame::Sized(0);
        Self {
            frame,
            held: Vec::new(),
            given: 0,
            whole,
            checker: Checker::default(),
        }
    }

    /// Takes what has come, and gives what is surely the snapshot's.
    ///
    /// # Errors
    /// More has come than there is: a sentence.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<u8>, String> {
        if self.whole {
            return Err("more came than the snapshot".to_owned());
        }
        let given = match &self.frame {
            Frame::Sized(size) => {
                let left = size - self.given;
                if bytes.len() as u64 > left {
                    return Err("more came than the snapshot".to_owned());
                }
                self.whole = bytes.len() as u64 == left;
                bytes.to_vec()
            }
            Frame::Until(mark) => {
                let mut all = std::mem::take(&mut self.held);
                all.extend_from_slice(bytes);
                self.whole = all.ends_with(mark);
                let keep = all.len().saturating_sub(MARK);
                let held = all.split_off(keep);
                if !self.whole {
                    self.held = held;
                }
                all
            }
        };
        self.given += given.len() as u64;
        self.checker.update(&given);
        Ok(given)
    }

    /// Whether all has come.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Ends it: what was given is a snapshot as Redis made it.
    ///
    /// # Errors
    /// It is none, or was changed: a sentence.
    pub fn finish(self) -> Result<(), String> {
        if !self.whole {
            return Err("the connection ended in the middle of the snapshot".to_owned());
        }
        self.checker.finish()
    }
}

/// Checks a snapshot that passes by.
#[derive(Debug)]
struct Checker {
    head: Vec<u8>,
    sum: Digest,
    /// The last bytes, which are not in the sum yet.
    held: Vec<u8>,
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            head: Vec::new(),
            sum: Digest::new(CrcAlgorithm::Crc64Redis),
            held: Vec::new(),
        }
    }
}

impl Checker {
    fn update(&mut self, bytes: &[u8]) {
        let missing = HEAD - self.head.len();
        self.head.extend(bytes.iter().take(missing));
        if bytes.len() >= END {
            self.sum.update(&self.held);
            let (passed, held) = bytes.split_at(bytes.len() - END);
            self.sum.update(passed);
            self.held.clear();
            self.held.extend_from_slice(held);
        } else {
            self.held.extend_from_slice(bytes);
            let passed = self.held.len().saturating_sub(END);
            self.sum.update(&self.held[..passed]);
            self.held.drain(..passed);
        }
    }

    fn finish(mut self) -> Result<(), String> {
        if !BEGINS.iter().any(|begin| self.head.starts_with(begin)) {
            return Err("what was sent is no snapshot of Redis or Valkey".to_owned());
        }
        let [EOF, told @ ..] = &self.held[..] else {
            return Err("the snapshot does not end as one does".to_owned());
        };
        self.sum.update(&[EOF]);
        let told = told.try_into().map_or(0, u64::from_le_bytes);
        // With nothing there no checksum was made.
        if told != 0 && told != self.sum.finalize() {
            return Err("the snapshot's checksum is wrong".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn snapshot(content: &[u8]) -> Vec<u8> {
        let mut all = b"REDIS0010".to_vec();
        all.extend(content);
        all.push(EOF);
        let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
        sum.update(&all);
        all.extend(sum.finalize().to_le_bytes());
        all
    }

    const ENDS: [u8; MARK] = *b"0123456789012345678901234567890123456789";

    #[test]
    fn the_checksum_is_the_one_of_redis() {
        let mut sum = Digest::new(CrcAlgorithm::Crc64Redis);
        sum.update(b"123456789");
        assert_eq!(sum.finalize(), 0xe9c6_d914_c4b8_d9ca);
    }

    #[test]
    fn lines_are_read_as_they_are_written() {
        let whole = Line::Whole {
            replid: "ab".into(),
            offset: 12,
        };
        assert_eq!(line("+FULLRESYNC ab 12"), Ok(whole));
        assert_eq!(line("$88"), Ok(Line::Payload(Frame::Sized(88))));
        let text = format!("$EOF:{}", String::from_utf8_lossy(&ENDS));
        assert_eq!(line(&text), Ok(Line::Payload(Frame::Until(ENDS))));
        let why = line("-NOMASTERLINK Can't SYNC while not connected with my master");
        assert!(why.unwrap_err().contains("NOMASTERLINK"));
        for strange in ["", "+CONTINUE", "$EOF:short", "$x", "+FULLRESYNC ab"] {
            assert!(line(strange).is_err(), "{strange}");
        }
    }

    #[test]
    fn what_is_no_whole_snapshot_is_refused() {
        let judged = |bytes: &[u8]| {
            let mut payload = Payload::new(Frame::Sized(bytes.len() as u64));
            payload.take(bytes).unwrap();
            payload.finish()
        };
        let good = snapshot(b"keys");
        assert_eq!(judged(&good), Ok(()));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(judged(&bad).is_err(), "byte {at}");
        }
        assert!(judged(&good[..good.len() - 1]).is_err());
        let mut unsummed = good;
        let end = unsummed.len() - 8;
        unsummed[end..].fill(0);
        assert_eq!(judged(&unsummed), Ok(()));
    }

    proptest! {
        #[test]
        fn in_whatever_pieces_it_comes(
            content in prop::collection::vec(any::<u8>(), 0..400), cuts in prop::collection::vec(0_usize..500, 0..8), sized in any::<bool>(),
        ) {
            let good = snapshot(&content);
            let mut sent = good.clone();
            let frame = if sized {
                Frame::Sized(good.len() as u64)
            } else {
                sent.extend(ENDS);
                Frame::Until(ENDS)
            };
            let mut cuts: Vec<_> = cuts.into_iter().map(|c| c.min(sent.len())).collect();
            cuts.extend([0, sent.len()]);
            cuts.sort_unstable();
            cuts.dedup();
            let (mut payload, mut given) = (Payload::new(frame), Vec::new());
            for piece in cuts.windows(2) {
                prop_assert!(!payload.is_whole());
                given.extend(payload.take(&sent[piece[0]..piece[1]]).unwrap());
            }
            prop_assert!(payload.is_whole());
            prop_assert_eq!(given, good);
            prop_assert_eq!(payload.finish(), Ok(()));
        }

        #[test]
        fn what_ends_early_is_no_snapshot(content in prop::collection::vec(any::<u8>(), 0..99), end in 0_usize..99) {
            let mut sent = snapshot(&content);
            sent.extend(ENDS);
            let end = end.min(sent.len() - 1);
            let mut payload = Payload::new(Frame::Until(ENDS));
            payload.take(&sent[..end]).unwrap();
            prop_assert!(payload.finish().is_err());
        }
    }
}
