//! CRC-32C, with which PostgreSQL's manifests tell files apart. Pure.

use crc_fast::{CrcAlgorithm, Digest};

/// A checksum that is being made.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(Digest);

impl Default for Crc32c {
    fn default() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }
}

impl Crc32c {
    /// Adds content.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Ends.
    pub fn finish(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "it has 32 bits")]
        let sum = self.0.finalize() as u32;
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn as_the_standard_has_it() {
        let mut crc = Crc32c::default();
        crc.update(b"123456789");
        assert_eq!(crc.finish(), 0xE306_9283);
    }

    /// Bit by bit, as the polynomial says.
    fn slowly(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0_u32, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ (0x82F6_3B78 * (crc & 1))
            })
        })
    }

    proptest! {
        #[test]
        fn in_whatever_pieces(bytes in prop::collection::vec(any::<u8>(), 0..2000), cut in 0_usize..2000) {
            let cut = cut.min(bytes.len());
            let mut parts = Crc32c::default();
            parts.update(&bytes[..cut]);
            parts.update(&bytes[cut..]);
            prop_assert_eq!(parts.finish(), slowly(&bytes));
        }
    }
}
