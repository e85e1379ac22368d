//! CRC-32C, with which PostgreSQL's manifests tell files apart. Pure.

/// The polynomial, reflected.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// Eight tables: eight bytes are taken at a time.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "it is below 256")]
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ (if value & 1 == 1 { POLYNOMIAL } else { 0 });
            bit += 1;
        }
        tables[0][index] = value;
        index += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut index = 0;
        while index < 256 {
            let before = tables[table - 1][index];
            tables[table][index] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            index += 1;
        }
        table += 1;
    }
    tables
}

/// A checksum that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Self {
        Self(!0)
    }
}

impl Crc32c {
    /// Adds content.
    pub fn update(&mut self, bytes: &[u8]) {
        let mut crc = self.0;
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            let [a, b, c, d] = crc.to_le_bytes();
            let at = |table: usize, byte: u8| TABLES[table][usize::from(byte)];
            crc = at(7, eight[0] ^ a)
                ^ at(6, eight[1] ^ b)
                ^ at(5, eight[2] ^ c)
                ^ at(4, eight[3] ^ d)
                ^ at(3, eight[4])
                ^ at(2, eight[5])
                ^ at(1, eight[6])
                ^ at(0, eight[7]);
        }
        for byte in rest {
            crc = (crc >> 8) ^ TABLES[0][usize::from(crc.to_le_bytes()[0] ^ byte)];
        }
        self.0 = crc;
    }

    /// Ends.
    pub fn finish(self) -> u32 {
        !self.0
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

    proptest! {
        #[test]
        fn in_whatever_pieces(bytes in prop::collection::vec(any::<u8>(), 0..100), cut in 0_usize..100) {
            let cut = cut.min(bytes.len());
            let (mut whole, mut parts) = (Crc32c::default(), Crc32c::default());
            whole.update(&bytes);
            parts.update(&bytes[..cut]);
            parts.update(&bytes[cut..]);
            prop_assert_eq!(whole, parts);
        }
    }
}
