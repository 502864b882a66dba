//! Numbers from a seed, by integers alone: the same on every platform.

/// SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number
/// Generators", OOPSLA 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `end - 1`. The upper half of a product (Lemire 2019); without his
    /// rejection, since the bias is below 2^-32 for the counts used here.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        scale(self.next(), end)
    }

    /// Exponentially distributed with this mean. Von Neumann's method
    /// ("Various techniques used in connection with random digits", 1951) only
    /// compares: the length of a falling run of uniform numbers is even with
    /// probability exp(-first). A logarithm would differ between platforms.
    pub(super) fn exponential(&mut self, mean: u64) -> u64 {
        let mut whole = 0_u64;
        loop {
            let first = self.next();
            let mut last = first;
            let mut n_falling = 1_u32;
            loop {
                let next = self.next();
                if next >= last {
                    break;
                }
                last = next;
                n_falling += 1;
            }
            if n_falling % 2 == 1 {
                return whole
                    .saturating_mul(mean)
                    .saturating_add(scale(first, mean));
            }
            whole += 1;
        }
    }
}

/// `fraction / 2^64` of `of`.
fn scale(fraction: u64, of: u64) -> u64 {
    let product = u128::from(fraction) * u128::from(of);
    // The upper half of a 128-bit product fits.
    (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_the_published_one() {
        // First outputs for seed 1234567, as the reference implementation's.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn exponential_has_its_mean_and_its_tail() {
        let mut random = Random::new(7);
        let samples: Vec<u64> = (0..200_000).map(|_| random.exponential(1_000)).collect();
        let mean = samples.iter().sum::<u64>() as f64 / samples.len() as f64;
        assert!((990.0..1_010.0).contains(&mean), "{mean}");
        // exp(-3) = 0.0498 is beyond three means.
        let n_beyond = samples.iter().filter(|x| **x > 3_000).count();
        let share = n_beyond as f64 / samples.len() as f64;
        assert!((0.048..0.052).contains(&share), "{share}");
    }
}
