//! Compression and encryption, as blocking readers and writers.

use std::io::{self, Read, Write};

use age::Decryptor;
use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;
use zstd::zstd_safe::compress_bound;

use crate::crypto::{Encrypted, Protection, Recipient};

/// Levels of zstd. 3 is its own default: higher ones cost more time than they save in a store. Where it saves next to
/// nothing over 1, as of what was compressed before, or of digits without any order, it takes three times as long for that.
const THOROUGH: i32 = 3;
const QUICK: i32 = 1;
/// One frame in so many is compressed at both levels, which decides for those up to the next such.
const TRIAL: u32 = 16;
/// So much of a frame, as a fraction, the thorough level has to save.
const SAVES: usize = 32;
/// Plain bytes of a frame of zstd; the last one has fewer. As one stream, with what it looks back at in a ring, zstd
/// takes up to twice the time for the same size: neither the ring nor its tables stay in the processor's cache.
pub(super) const FRAME: usize = 1 << 20;

/// Turns plain bytes into stored ones: frames of zstd, one after the other, which every decoder takes for one content.
/// Each has a checksum. That one is missing at the end is told by digest and size of the whole.
pub(super) struct Encode<W: Write> {
    zstd: Compressor<'static>,
    /// Plain bytes that are no frame yet; what comes as whole frames never is here.
    plain: Vec<u8>,
    /// Room for one.
    frame: Vec<u8>,
    /// Room for the same at the other level.
    other: Vec<u8>,
    /// The level that is taken, and for how many frames more.
    level: (i32, u32),
    /// Whether there was one.
    begun: bool,
    sealed: Sealed<W>,
}

/// The layer below compression.
enum Sealed<W: Write> {
    Plain(W),
    Age(Box<age::stream::StreamWriter<W>>),
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Age(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Age(out) => out.flush(),
        }
    }
}

impl<W: Write> Encode<W> {
    pub(super) fn new(protection: &Protection, out: W) -> io::Result<Self> {
        let sealed = match protection {
            Protection::Plain => Sealed::Plain(out),
            Protection::Encrypted(encrypted) => {
                Sealed::Age(Box::new(encryptor(encrypted)?.wrap_output(out)?))
            }
        };
        let mut zstd = Compressor::new(QUICK)?;
        zstd.include_checksum(true)?;
        Ok(Self {
            zstd,
            plain: Vec::new(),
            frame: Vec::with_capacity(compress_bound(FRAME)),
            other: Vec::new(),
            level: (QUICK, 0),
            begun: false,
            sealed,
        })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.plain.is_empty() && bytes.len() >= FRAME {
                let (frame, left) = bytes.split_at(FRAME);
                self.frame_of(frame)?;
                bytes = left;
                continue;
            }
            if self.plain.capacity() == 0 {
                self.plain.reserve_exact(FRAME);
            }
            let (taken, left) = bytes.split_at(bytes.len().min(FRAME - self.plain.len()));
            self.plain.extend_from_slice(taken);
            bytes = left;
            if self.plain.len() == FRAME {
                self.end_frame()?;
            }
        }
        Ok(())
    }

    fn end_frame(&mut self) -> io::Result<()> {
        let mut plain = std::mem::take(&mut self.plain);
        self.frame_of(&plain)?;
        plain.clear();
        self.plain = plain;
        Ok(())
    }

    fn frame_of(&mut self, plain: &[u8]) -> io::Result<()> {
        let (level, left) = self.level;
        if left == 0 {
            self.level = (self.trial(plain)?, TRIAL - 1);
        } else {
            self.zstd.compress_to_buffer(plain, &mut self.frame)?;
            self.level = (level, left - 1);
        }
        self.begun = true;
        self.sealed.write_all(&self.frame)
    }

    /// Compresses a frame at both levels, and gives the one that is taken from now on. It goes by what is compressed
    /// alone: the same content is stored as the same bytes.
    fn trial(&mut self, plain: &[u8]) -> io::Result<i32> {
        if self.other.capacity() == 0 {
            self.other.reserve_exact(compress_bound(FRAME));
        }
        self.zstd.set_compression_level(QUICK)?;
        self.zstd.compress_to_buffer(plain, &mut self.other)?;
        self.zstd.set_compression_level(THOROUGH)?;
        self.zstd.compress_to_buffer(plain, &mut self.frame)?;
        if self.frame.len() + self.frame.len() / SAVES <= self.other.len() {
            return Ok(THOROUGH);
        }
        if self.other.len() < self.frame.len() {
            std::mem::swap(&mut self.frame, &mut self.other);
        }
        self.zstd.set_compression_level(QUICK)?;
        Ok(QUICK)
    }

    /// Ends both layers.
    pub(super) fn finish(mut self) -> io::Result<W> {
        // What is empty is a frame too.
        if !self.plain.is_empty() || !self.begun {
            self.end_frame()?;
        }
        match self.sealed {
            Sealed::Plain(out) => Ok(out),
            Sealed::Age(out) => out.finish(),
        }
    }
}

fn encryptor(encrypted: &Encrypted) -> io::Result<age::Encryptor> {
    let recipients = encrypted.recipients();
    age::Encryptor::with_recipients(recipients.iter().map(Recipient::as_age))
        .map_err(io::Error::other)
}

/// Turns stored bytes into plain ones.
pub(super) enum Decode<R: Read> {
    Plain(Box<Decoder<'static, io::BufReader<R>>>),
    Age(Box<Decoder<'static, io::BufReader<age::stream::StreamReader<R>>>>),
}

impl<R: Read> Decode<R> {
    /// `encrypted`: whether the object is.
    pub(super) fn new(encrypted: bool, protection: &Protection, stored: R) -> io::Result<Self> {
        if !encrypted {
            return Ok(Self::Plain(Box::new(bounded(Decoder::new(stored)?)?)));
        }
        let identities = protection
            .keyring()
            .map(crate::crypto::Keyring::identities)
            .unwrap_or_default();
        let decryptor = Decryptor::new(stored).map_err(unopened)?;
        // The newest first: it is the likeliest.
        let opened = decryptor.decrypt(
            identities
                .iter()
                .rev()
                .map(|identity| identity as &dyn age::Identity),
        );
        Ok(Self::Age(Box::new(bounded(Decoder::new(
            opened.map_err(unopened)?,
        )?)?)))
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(plain) => plain.read(into),
            Self::Age(plain) => plain.read(into),
        }
    }
}

/// What an object asks for, it may not have: ours look back 1 MiB, those of earlier releases 2.
fn bounded<R: io::BufRead>(mut decoder: Decoder<'static, R>) -> io::Result<Decoder<'static, R>> {
    decoder.window_log_max(23)?;
    Ok(decoder)
}

/// The cause of a failure to open, so that it can be told from damage.
#[derive(Debug, thiserror::Error)]
#[error("none of the keys at hand opens it")]
pub(super) struct NoKey;

fn unopened(error: age::DecryptError) -> io::Error {
    match error {
        age::DecryptError::NoMatchingKeys => io::Error::new(io::ErrorKind::PermissionDenied, NoKey),
        age::DecryptError::Io(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{EncryptionSpec, Keyring};
    use proptest::prelude::*;

    fn protections() -> [Protection; 2] {
        let spec = EncryptionSpec {
            recipients: Vec::new(),
            i_accept_key_loss: true,
        };
        [
            Protection::Plain,
            Protection::encrypted(Keyring::generate([1; 32]), &spec).unwrap(),
        ]
    }

    fn encode(protection: &Protection, content: &[u8], step: usize) -> Vec<u8> {
        let mut encode = Encode::new(protection, Vec::new()).unwrap();
        for chunk in content.chunks(step) {
            encode.write(chunk).unwrap();
        }
        encode.finish().unwrap()
    }

    fn decode(encrypted: bool, protection: &Protection, stored: &[u8]) -> io::Result<Vec<u8>> {
        let mut decode = Decode::new(encrypted, protection, stored)?;
        let (mut content, mut chunk) = (Vec::new(), [0; 777]);
        loop {
            match decode.read(&mut chunk)? {
                0 => return Ok(content),
                read => content.extend_from_slice(&chunk[..read]),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn there_and_back(content in prop::collection::vec(any::<u8>(), 0..200_000), step in 1_usize..70_000) {
            for protection in protections() {
                let stored = encode(&protection, &content, step);
                prop_assert_eq!(&decode(protection.keyed(), &protection, &stored).unwrap(), &content);
            }
        }

        #[test]
        fn what_is_cut_off_is_an_error(content in prop::collection::vec(any::<u8>(), 0..100_000), at in any::<prop::sample::Index>()) {
            for protection in protections() {
                let stored = encode(&protection, &content, 4096);
                let kept = at.index(stored.len());
                if kept > 0 || protection.keyed() {
                    prop_assert!(decode(protection.keyed(), &protection, &stored[..kept]).is_err(), "{} of {}", kept, stored.len());
                }
            }
        }
    }

    #[test]
    fn several_frames_are_one_content() {
        let content: Vec<u8> = (0..2 * FRAME + FRAME / 2)
            .map(|at| (at * at / 999).to_le_bytes()[0])
            .collect();
        for protection in protections() {
            for length in [FRAME - 1, FRAME, FRAME + 1, content.len()] {
                let stored = encode(&protection, &content[..length], 100_000);
                let back = decode(protection.keyed(), &protection, &stored).unwrap();
                assert!(back == content[..length], "{length}");
            }
        }
    }

    /// Letters without any order, or words that come again.
    fn text(words: bool, length: usize) -> Vec<u8> {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut text = Vec::new();
        while text.len() < length {
            if words {
                let n = next() % 5000;
                text.extend(format!("{{\"customer\":{n},\"state\":\"{}\"}},", n * n).bytes());
            } else {
                text.extend(format!("{:016x}", next()).bytes());
            }
        }
        text.truncate(length);
        text
    }

    #[test]
    fn the_level_is_the_one_that_pays() {
        let level = |content: &[u8]| {
            let mut encode = Encode::new(&Protection::Plain, Vec::new()).unwrap();
            encode.write(content).unwrap();
            let level = encode.level;
            let stored = encode.finish().unwrap();
            assert!(decode(false, &Protection::Plain, &stored).unwrap() == content);
            (level, stored.len())
        };
        let (digits, prose) = (text(false, FRAME), text(true, FRAME));
        let (taken, stored) = level(&digits);
        assert_eq!(taken, (QUICK, TRIAL - 1));
        assert!(stored < FRAME * 52 / 100, "{stored}");
        assert_eq!(level(&prose).0, (THOROUGH, TRIAL - 1));
        // What it is is looked at again.
        let mut mixed = digits;
        for _ in 0..TRIAL {
            mixed.extend_from_slice(&prose);
        }
        let frames = usize::try_from(TRIAL).unwrap();
        assert_eq!(level(&mixed[..frames * FRAME]).0, (QUICK, 0));
        assert_eq!(level(&mixed).0, (THOROUGH, TRIAL - 1));
    }

    #[test]
    fn one_frame_as_earlier_releases_wrote_it_is_read() {
        let content = vec![7; 3 * FRAME];
        let mut stream = zstd::stream::write::Encoder::new(Vec::new(), THOROUGH).unwrap();
        stream.include_checksum(true).unwrap();
        stream.write_all(&content).unwrap();
        let stored = stream.finish().unwrap();
        let back = decode(false, &Protection::Plain, &stored).unwrap();
        assert!(back == content);
    }

    #[test]
    fn rotated_keys_open_what_older_ones_wrote_and_strangers_do_not() {
        let spec = EncryptionSpec {
            recipients: Vec::new(),
            i_accept_key_loss: true,
        };
        let first = Keyring::generate([1; 32]);
        let stored = encode(
            &Protection::encrypted(first.clone(), &spec).unwrap(),
            b"old",
            1,
        );
        let rotated = Protection::opening(first.rotated());
        assert_eq!(decode(true, &rotated, &stored).unwrap(), b"old");
        let newer = encode(
            &Protection::encrypted(first.rotated(), &spec).unwrap(),
            b"new",
            1,
        );
        let error = decode(true, &Protection::opening(first), &newer).unwrap_err();
        assert!(
            error.get_ref().unwrap().is::<NoKey>(),
            "the old key does not open new objects: {error}"
        );
    }
}
