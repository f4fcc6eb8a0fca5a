//! What may be done to a task's label probabilities: evening out the lengths of labels, and what the model says
//! without reading anything.

use super::LabelTrie;

/// A content-free probability below this counts as this: a label that the model never says is not made certain.
const FLOOR: f32 = 1e-6;

/// Evens out the lengths of labels: each probability becomes the geometric mean of the choices that it is the
/// product of, and the means are made to sum to 1. A label with one choice on its way keeps its standing.
pub fn normalize_lengths(probabilities: &mut [f32], trie: &LabelTrie) {
    for (label, p) in probabilities.iter_mut().enumerate() {
        *p = p.powf(1.0 / trie.decisions(label).len().max(1) as f32);
    }
    to_sum_one(probabilities);
}

/// Divides each probability by the one that the label gets from inputs without content, and makes the quotients sum
/// to 1 (contextual calibration, Zhao et al. 2021, with a diagonal matrix).
pub fn calibrate(probabilities: &mut [f32], content_free: &[f32]) {
    for (p, prior) in probabilities.iter_mut().zip(content_free) {
        *p /= prior.max(FLOOR);
    }
    to_sum_one(probabilities);
}

fn to_sum_one(xs: &mut [f32]) {
    let total: f32 = xs.iter().sum();
    if total > 0.0 {
        xs.iter_mut().for_each(|x| *x /= total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: &[f32], want: &[f32]) {
        let apart = got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-6, "{got:?} for {want:?}");
    }

    #[test]
    fn a_label_of_many_choices_is_not_small_because_it_is_long() {
        let labels = [("a", vec![7]), ("b", vec![8, 9]), ("c", vec![8, 4])];
        let labels = labels.map(|(name, tokens)| (name.to_owned(), tokens));
        let trie = LabelTrie::new(&labels, 0, 1).unwrap();
        let mut p = [0.4, 0.36, 0.24];
        normalize_lengths(&mut p, &trie);
        // 0.4, the root of 0.36 and the root of 0.24
        let total = 0.4 + 0.6 + 0.24_f32.sqrt();
        near(&p, &[0.4 / total, 0.6 / total, 0.24_f32.sqrt() / total]);
    }

    #[test]
    fn what_the_model_says_to_nothing_is_divided_out() {
        let mut p = [0.6, 0.3, 0.1];
        calibrate(&mut p, &[0.6, 0.3, 0.1]);
        near(&p, &[1.0 / 3.0; 3]);
        let mut p = [0.5, 0.5];
        calibrate(&mut p, &[0.8, 0.2]);
        near(&p, &[0.2, 0.8]);
        let mut p = [0.999_999, 0.000_001];
        calibrate(&mut p, &[1.0, 0.0]);
        near(&p, &[0.5, 0.5]);
    }
}
