//! Compression and encryption, as blocking readers and writers.

use std::io::{self, Read, Write};

use age::Decryptor;
use zstd::bulk::Compressor;
use zstd::stream::read::Decoder;
use zstd::zstd_safe::compress_bound;

use crate::crypto::{Encrypted, Protection, Recipient};

/// The level of zstd. 3 is its own default: higher ones cost more time than they save in a store.
const LEVEL: i32 = 3;
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
        let mut zstd = Compressor::new(LEVEL)?;
        zstd.include_checksum(true)?;
        Ok(Self {
            zstd,
            plain: Vec::new(),
            frame: Vec::with_capacity(compress_bound(FRAME)),
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
        self.zstd.compress_to_buffer(plain, &mut self.frame)?;
        self.begun = true;
        self.sealed.write_all(&self.frame)
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

    #[test]
    fn one_frame_as_earlier_releases_wrote_it_is_read() {
        let content = vec![7; 3 * FRAME];
        let mut stream = zstd::stream::write::Encoder::new(Vec::new(), LEVEL).unwrap();
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
