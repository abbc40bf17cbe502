//! Randomness that can be repeated: a story says its seed, and `KNIT_TESTS_SEED` sets it.

use std::io::Write as _;

/// A small generator (splitmix64); enough to choose moments and victims.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The generator of a story: from `KNIT_TESTS_SEED`, or from `default`. The seed is said on stderr.
    pub fn of(story: &str, default: u64) -> Self {
        let seed = std::env::var("KNIT_TESTS_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
        let _ = writeln!(std::io::stderr().lock(), "{story}: KNIT_TESTS_SEED={seed}");
        Self { state: seed }
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Any bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_choices() {
        let choices = |seed| {
            let mut chance = Chance { state: seed };
            ((0..20).map(|_| chance.below(7)).collect::<Vec<_>>(), chance.bytes(13))
        };
        assert_eq!(choices(5), choices(5));
        assert_ne!(choices(5), choices(6));
        assert_eq!(choices(5).1.len(), 13);
    }
}
