//! How long to wait before the next attempt: doubling from a first delay to a longest one, with
//! jitter.
//!
//! Deterministic: the jitter comes from the seed given at the start.

/// Delays in milliseconds that double from `first` to `longest`.
#[derive(Debug, Clone)]
pub struct Backoff {
    first_ms: u64,
    longest_ms: u64,
    next_ms: u64,
    seed: u64,
}

impl Backoff {
    /// Starts at `first_ms`; `seed` decides the jitter, so that replicas of one master do not
    /// return in step.
    pub fn new(first_ms: u64, longest_ms: u64, seed: u64) -> Self {
        let first_ms = first_ms.max(1);
        Self { first_ms, longest_ms: longest_ms.max(first_ms), next_ms: first_ms, seed }
    }

    /// The delay before the next attempt: between three quarters and the whole of the current step.
    pub fn next_delay_ms(&mut self) -> u64 {
        let step = self.next_ms;
        self.next_ms = step.saturating_mul(2).min(self.longest_ms);
        let spread = step / 4;
        step - if spread == 0 { 0 } else { self.draw() % (spread + 1) }
    }

    /// Begins again at the first delay, after something worked.
    pub fn reset(&mut self) {
        self.next_ms = self.first_ms;
    }

    /// SplitMix64: a full-period mix of a counter, plenty for jitter.
    fn draw(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn doubles_to_the_longest_and_begins_again() {
        let mut backoff = Backoff::new(50, 5000, 7);
        for step in [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            let delay = backoff.next_delay_ms();
            assert!(delay <= step && delay >= step * 3 / 4, "{delay} of {step}");
        }
        backoff.reset();
        assert!(backoff.next_delay_ms() <= 50);
    }
}
