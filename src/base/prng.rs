//! Seeded randomness: a run is a function of its seed. Never for keys (see `io::entropy`).

/// xorshift64*.
#[derive(Clone, Debug)]
pub struct Prng(u64);

impl Prng {
    /// The same seed gives the same numbers on any machine.
    pub fn from_seed(seed: u64) -> Prng {
        // splitmix64 spreads neighbouring seeds; xorshift must not start at zero.
        let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        Prng((z ^ (z >> 31)) | 1)
    }
    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    /// Uniform in `0..n`. Panics when `n` is zero.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(0 < n);
        ((u128::from(self.next_u64()) * u128::from(n)) >> 64) as u64
    }
    /// True `num` times in `den`.
    pub fn chance(&mut self, num: u64, den: u64) -> bool {
        self.below(den) < num
    }
}
