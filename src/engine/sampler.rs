//! Choosing one token by its logits: the most likely, or one drawn.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

use super::decoding::Sampling;

/// Draws the tokens of one text.
#[derive(Debug)]
pub(super) struct Sampler {
    settings: Sampling,
    chance: ChaCha8Rng,
}

// === impl Sampler ===

impl Sampler {
    pub(super) fn new(settings: Sampling) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(settings.seed);
        chance.set_stream(settings.stream);
        Self { settings, chance }
    }

    /// Draws a token.
    pub(super) fn draw(&mut self, logits: &[f32]) -> u32 {
        let weights = weights(logits, &self.settings);
        let total: f64 = weights.iter().map(|&(_, weight)| weight).sum();
        // 53 random bits: a number from 0 to 1 without 1
        let mut left = (self.chance.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * total;
        for &(token, weight) in &weights {
            if left < weight {
                return token;
            }
            left -= weight;
        }
        weights.last().map_or_else(|| most_likely(logits), |&(token, _)| token)
    }
}

/// The index of the largest logit, the first of equal ones.
fn most_likely(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, &x) in logits.iter().enumerate() {
        if x > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// The tokens that may be drawn, with weights in proportion to their probabilities.
fn weights(logits: &[f32], settings: &Sampling) -> Vec<(u32, f64)> {
    let largest = f64::from(logits[most_likely(logits) as usize]);
    let weight = |x: f32| ((f64::from(x) - largest) / f64::from(settings.temperature)).exp();
    let mut weights: Vec<(u32, f64)> =
        logits.iter().enumerate().map(|(token, &x)| (token as u32, weight(x))).collect();
    // equal weights keep the order of the vocabulary, so that a seed always draws the same
    let likelier = |a: &(u32, f64), b: &(u32, f64)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if let Some(count) = settings.top_k.filter(|&count| count < weights.len()) {
        weights.select_nth_unstable_by(count, likelier);
        weights.truncate(count);
    }
    if settings.top_p < 1.0 {
        weights.sort_unstable_by(likelier);
        let enough = f64::from(settings.top_p) * weights.iter().map(|&(_, weight)| weight).sum::<f64>();
        let mut sum = 0.0;
        let reaches = weights.iter().position(|&(_, weight)| {
            sum += weight;
            sum >= enough
        });
        weights.truncate(reaches.map_or(weights.len(), |at| at + 1));
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn what_is_drawn_from_is_what_transformers_leaves() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/expected/decoding.json");
        let expected: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let floats = |value: &Value| -> Vec<f32> {
            value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
        };
        for case in expected["sampling"].as_array().unwrap() {
            let settings = Sampling {
                temperature: case["temperature"].as_f64().unwrap() as f32,
                top_k: case["top_k"].as_u64().map(|k| k as usize),
                top_p: case["top_p"].as_f64().map_or(1.0, |p| p as f32),
                seed: 11,
                stream: 0,
            };
            let logits = floats(&case["logits"]);
            let want = floats(&case["probabilities"]);
            let left = weights(&logits, &settings);
            let total: f64 = left.iter().map(|&(_, weight)| weight).sum();
            let mut got = vec![0.0; want.len()];
            for (token, weight) in left {
                got[token as usize] = (weight / total) as f32;
            }
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() < 1e-5, "{got} for {want}: {case}");
            }
            // and it is drawn as often as that
            let mut sampler = Sampler::new(settings);
            let mut counts = vec![0; want.len()];
            for _ in 0..20_000 {
                counts[sampler.draw(&logits) as usize] += 1;
            }
            for (&count, want) in counts.iter().zip(&want) {
                assert!((count as f32 / 20_000.0 - want).abs() < 0.02, "{count} for {want}: {case}");
            }
        }
    }

    #[test]
    fn a_seed_draws_the_same_again_and_its_streams_differ() {
        let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32 / 3.0).collect();
        let drawn = |seed, stream| -> Vec<u32> {
            let settings = Sampling { temperature: 1.0, top_k: None, top_p: 1.0, seed, stream };
            let mut sampler = Sampler::new(settings);
            (0..20).map(|_| sampler.draw(&logits)).collect()
        };
        assert_eq!(drawn(5, 0), drawn(5, 0));
        assert_ne!(drawn(5, 0), drawn(6, 0));
        assert_ne!(drawn(5, 0), drawn(5, 1));
    }
}
