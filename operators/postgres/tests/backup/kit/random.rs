//! Random moments that a seed brings back.

/// Environment variable: another seed.
const SEED: &str = "MAINSTAY_TEST_SEED";

/// Numbers that look random, the same ones for a seed (`SplitMix64`).
pub struct Random(u64);

impl Random {
    /// From the seed that `MAINSTAY_TEST_SEED` gives, else always the same; it is printed.
    pub fn new() -> Self {
        let seed = std::env::var(SEED).map_or(20_260_102, |seed| seed.parse().unwrap());
        println!("random moments: {SEED}={seed}");
        Self(seed)
    }

    /// Below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Moments of a ledger from one to another, in microseconds of the epoch. Of three, one is anywhere between them, where
    /// mostly nobody writes; the others are when a row was committed, and just before.
    pub fn moments(&mut self, ledger: &[(u32, i64)], from: i64, to: i64, count: usize) -> Vec<i64> {
        let rows: Vec<i64> = ledger.iter().map(|(_, at)| *at).collect();
        let rows: Vec<i64> = rows
            .into_iter()
            .filter(|at| *at > from && *at <= to)
            .collect();
        let span = u64::try_from(to - from).unwrap();
        let one = |round: usize| {
            let row = rows[usize::try_from(self.below(rows.len() as u64)).unwrap()];
            match round % 3 {
                0 => from + i64::try_from(self.below(span)).unwrap(),
                1 => row,
                _ => row - 1,
            }
        };
        (0..count).map(one).collect()
    }
}
