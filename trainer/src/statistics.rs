//! Intervals by bootstrap (Efron 1979): over examples for one prompt, over seeds and examples for several.
//!
//! Every interval is the 95 % percentile interval over the same resamplings, so that two prompts on the same examples
//! are compared pair by pair.

use rand::{Rng as _, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::metric::Judged;
use crate::summary::{Estimate, OverSeeds};

/// Resamplings of a bootstrap.
const RESAMPLINGS: usize = 1000;

/// One prompt's value for each resampling of the examples, all prompts by the same resamplings.
#[derive(Clone, Debug)]
pub struct Resampled {
    value: f64,
    values: Vec<f64>,
}

/// Draws of examples, the same for every prompt that is judged on as many.
#[derive(Debug)]
pub struct Resampler {
    draws: Vec<Vec<usize>>,
}

// === impl Resampler ===

impl Resampler {
    /// Draws from `size` examples (or groups of examples) with replacement.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let draw = |rng: &mut ChaCha8Rng| (0..size).map(|_| rng.random_range(0..size)).collect();
        Self { draws: (0..RESAMPLINGS).map(|_| draw(&mut rng)).collect() }
    }

    /// A prompt's value under each draw.
    #[must_use]
    pub fn resample(&self, judged: &Judged) -> Resampled {
        Resampled {
            value: judged.value(),
            values: self.draws.iter().map(|draw| judged.value_of(draw)).collect(),
        }
    }
}

// === impl Resampled ===

impl Resampled {
    /// The value with its interval over examples.
    #[must_use]
    pub fn estimate(&self) -> Estimate {
        let (low, high) = interval(self.values.clone());
        Estimate { value: self.value, low, high }
    }
}

/// Mean and deviation over seeds; the interval resamples seeds and examples.
#[must_use]
pub fn over_seeds(seeds: &[&Resampled]) -> OverSeeds {
    let values: Vec<f64> = seeds.iter().map(|seed| seed.value).collect();
    let (low, high) = interval(mean_of_draws(seeds, |seed, draw| seed.values[draw]));
    OverSeeds { mean: mean(&values), deviation: deviation(&values), low, high }
}

/// The mean difference `a` - `b` over seeds, paired by seed and example, with its interval over both.
#[must_use]
pub fn difference(a: &[&Resampled], b: &[&Resampled]) -> Estimate {
    let pairs: Vec<(&Resampled, &Resampled)> = a.iter().copied().zip(b.iter().copied()).collect();
    let values: Vec<f64> = pairs.iter().map(|(a, b)| a.value - b.value).collect();
    let (low, high) = interval(mean_of_draws(&pairs, |(a, b), draw| a.values[draw] - b.values[draw]));
    Estimate { value: mean(&values), low, high }
}

/// For each draw of examples the mean over seeds drawn with replacement. Of one seed nothing is drawn.
fn mean_of_draws<T>(seeds: &[T], value: impl Fn(&T, usize) -> f64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    (0..RESAMPLINGS)
        .map(|draw| {
            let drawn = (0..seeds.len()).map(|_| value(&seeds[rng.random_range(0..seeds.len())], draw));
            drawn.sum::<f64>() / seeds.len() as f64
        })
        .collect()
}

fn interval(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    (at(0.025), at(0.975))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of a sample, with n - 1; none for fewer than two values.
fn deviation(values: &[f64]) -> Option<f64> {
    let mean = mean(values);
    let square: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    (values.len() > 1).then(|| (square / (values.len() - 1) as f64).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{Example, Target};
    use crate::metric::{Metric, Prediction};
    use proptest::prelude::*;

    /// `right` of 400 examples answered rightly, from the `first` on.
    fn judged(first: usize, right: usize) -> Judged {
        let example = |_| Example {
            input: serde_json::Map::new(),
            source: Vec::new(),
            target: Target::Label(1),
            accepted: Vec::new(),
            group: None,
        };
        let examples: Vec<Example> = (0..400).map(example).collect();
        let label = |i: usize| usize::from((first..first + right).contains(&i));
        let predictions: Vec<Prediction> = (0..400).map(|i| Prediction::Label(label(i))).collect();
        Metric::Accuracy.judge(&predictions, &examples, 2)
    }

    proptest! {
        #[test]
        fn an_interval_lies_within_the_values_and_holds_their_median(
            mut values in proptest::collection::vec(-1.0f64..1.0, 1..200),
        ) {
            let (low, high) = interval(values.clone());
            values.sort_by(f64::total_cmp);
            prop_assert!(values[0] <= low && high <= values[values.len() - 1]);
            prop_assert!(low <= values[values.len() / 2] && values[(values.len() - 1) / 2] <= high);
        }

        #[test]
        fn the_interval_of_an_accuracy_holds_the_accuracy(first in 0usize..100, right in 0usize..=300) {
            let estimate = Resampler::new(400).resample(&judged(first, right)).estimate();
            prop_assert!(estimate.low <= estimate.value && estimate.value <= estimate.high, "{:?}", estimate);
        }
    }

    #[test]
    fn the_interval_of_an_accuracy_is_the_binomial_one() {
        let estimate = Resampler::new(400).resample(&judged(0, 300)).estimate();
        assert!((estimate.value - 0.75).abs() < 1e-12);
        let half = 1.96 * (0.75f64 * 0.25 / 400.0).sqrt();
        assert!((estimate.low - (0.75 - half)).abs() < 0.006, "{estimate:?}");
        assert!((estimate.high - (0.75 + half)).abs() < 0.006, "{estimate:?}");
    }

    #[test]
    fn pairing_narrows_the_interval_of_a_difference() {
        let resampler = Resampler::new(400);
        let [base, same_rows, other_rows] =
            [(0, 200), (0, 220), (180, 220)].map(|(first, right)| resampler.resample(&judged(first, right)));
        let near = difference(&[&same_rows], &[&base]);
        let far = difference(&[&other_rows], &[&base]);
        assert!((near.value - 0.05).abs() < 1e-12 && (far.value - 0.05).abs() < 1e-12);
        assert!(near.low > 0.0 && far.low < 0.0, "{near:?} {far:?}");
        assert_eq!(difference(&[&base], &[&base]), Estimate { value: 0.0, low: 0.0, high: 0.0 });
    }

    #[test]
    fn deviation_is_that_of_a_sample() {
        let resampler = Resampler::new(400);
        let seeds = [200, 220, 240].map(|right| resampler.resample(&judged(0, right)));
        let over = over_seeds(&seeds.iter().collect::<Vec<_>>());
        assert!((over.mean - 0.55).abs() < 1e-12);
        assert!((over.deviation.unwrap() - 0.05).abs() < 1e-12);
        assert!(over.low < 0.53 && over.high > 0.57);
        assert_eq!(over_seeds(&[&seeds[0]]).deviation, None);
    }
}
