//! Adafactor (Shazeer and Stern 2018) as prompt tuning uses it: constant learning rate, no parameter scaling, no
//! momentum, and a second moment that is not factored (Lester et al. 2021).

use serde::{Deserialize, Serialize};

/// Adafactor's options, named as in its implementations.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// The constant learning rate.
    pub learning_rate: f32,
    /// The second moment's decay at step t is 1 - t^-`decay_rate`.
    pub decay_rate: f32,
    /// An update whose root mean square is larger is scaled down to it.
    pub clipping_threshold: f32,
    /// Added to squared gradients.
    pub epsilon: f32,
    /// Share of a value that is taken off each step, times the learning rate.
    pub weight_decay: f32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            learning_rate: 0.3,
            decay_rate: 0.8,
            clipping_threshold: 1.0,
            epsilon: 1e-30,
            weight_decay: 1e-5,
        }
    }
}

/// The state of an optimization.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Adafactor {
    options: Options,
    step: u32,
    second_moment: Vec<f32>,
}

// === impl Adafactor ===

impl Adafactor {
    /// For `size` values.
    #[must_use]
    pub fn new(options: Options, size: usize) -> Self {
        Self { options, step: 0, second_moment: vec![0.0; size] }
    }

    /// Takes one step. Values whose `mask` is false stay as they are and do not count in the clipping.
    ///
    /// # Panics
    /// If the lengths differ from the size.
    pub fn step(&mut self, values: &mut [f32], gradient: &[f32], mask: &[bool]) {
        let size = self.second_moment.len();
        assert!(
            [values.len(), gradient.len(), mask.len()] == [size; 3],
            "one entry for each of {size} values"
        );
        let o = self.options;
        self.step += 1;
        let decay = 1.0 - (self.step as f32).powf(-o.decay_rate);
        let mut update = vec![0.0; size];
        let (mut square, mut count) = (0.0f64, 0usize);
        for i in (0..size).filter(|&i| mask[i]) {
            let g = gradient[i];
            self.second_moment[i] = decay * self.second_moment[i] + (1.0 - decay) * (g * g + o.epsilon);
            update[i] = g / self.second_moment[i].sqrt();
            square += f64::from(update[i]).powi(2);
            count += 1;
        }
        let rms = (square / count.max(1) as f64).sqrt() as f32;
        let scale = o.learning_rate / (rms / o.clipping_threshold).max(1.0);
        for i in (0..size).filter(|&i| mask[i]) {
            values[i] -= o.weight_decay * o.learning_rate * values[i] + scale * update[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// transformers' `Adafactor` on the same gradients; the fixture says how it was made.
    #[test]
    fn steps_agree_with_transformers() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/expected/adafactor.safetensors");
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let read = |name: &str| -> Vec<f32> {
            let data = file.tensor(name).unwrap().data().to_vec();
            data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let (mut values, gradients, expected) = (read("initial"), read("grads"), read("params"));
        let size = values.len();
        let mut optimizer = Adafactor::new(Options::default(), size);
        for (gradient, expected) in gradients.chunks(size).zip(expected.chunks(size)) {
            optimizer.step(&mut values, gradient, &vec![true; size]);
            for (got, want) in values.iter().zip(expected) {
                assert!((got - want).abs() < 1e-5 * (1.0 + want.abs()), "{got} against {want}");
            }
        }
    }

    #[test]
    fn masked_values_do_not_move() {
        let mut values = [1.0, 2.0];
        let mut optimizer = Adafactor::new(Options::default(), 2);
        optimizer.step(&mut values, &[0.5, 0.5], &[true, false]);
        assert!(values[0] < 1.0);
        assert_eq!(values[1], 2.0);
    }
}
