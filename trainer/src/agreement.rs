//! How far two ways of computing the same answers are apart.

use serde::Serialize;

use crate::evaluate::Answer;

/// The answers to the same examples, computed in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Examples.
    pub rows: usize,
    /// Examples whose label, or text, is the same.
    pub same: usize,
    /// Mean over the examples of the largest difference of a label's probability; none of texts.
    pub mean_difference: Option<f64>,
    /// That difference in the example at nine tenths of all.
    pub ninth_tenth: Option<f64>,
    /// The largest of all.
    pub largest_difference: Option<f64>,
}

// === impl Agreement ===

impl Agreement {
    /// Compares answers to the same examples, in the same order.
    #[must_use]
    pub fn between(a: &[Answer], b: &[Answer]) -> Self {
        let same = a.iter().zip(b).filter(|(a, b)| a.prediction() == b.prediction()).count();
        let mut apart: Vec<f64> = a.iter().zip(b).filter_map(|(a, b)| difference(a, b)).collect();
        apart.sort_unstable_by(f64::total_cmp);
        let mean = (!apart.is_empty()).then(|| apart.iter().sum::<f64>() / apart.len() as f64);
        Self {
            rows: a.len(),
            same,
            mean_difference: mean,
            ninth_tenth: apart.get(apart.len() * 9 / 10).copied(),
            largest_difference: apart.last().copied(),
        }
    }
}

/// The largest difference of a label's probability.
fn difference(a: &Answer, b: &Answer) -> Option<f64> {
    let (Answer::Scores(a), Answer::Scores(b)) = (a, b) else { return None };
    let apart = a.iter().zip(b).map(|(&a, &b)| f64::from(a - b).abs());
    apart.max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_agree_where_the_most_probable_is_the_same_however_far_its_probability_moved() {
        let scores = |xs: &[f32]| Answer::Scores(xs.to_vec());
        let a = [scores(&[0.75, 0.25]), scores(&[0.5, 0.5]), scores(&[0.125, 0.875])];
        let b = [scores(&[0.5, 0.5]), scores(&[0.25, 0.75]), scores(&[0.125, 0.875])];
        let found = Agreement::between(&a, &b);
        assert_eq!((found.rows, found.same), (3, 2));
        assert_eq!(found.mean_difference, Some(0.5 / 3.0));
        assert_eq!((found.ninth_tenth, found.largest_difference), (Some(0.25), Some(0.25)));
        assert_eq!(Agreement::between(&a, &a).largest_difference, Some(0.0));
    }

    #[test]
    fn a_probability_that_is_no_number_is_the_largest_difference() {
        let a = [Answer::Scores(vec![0.5, f32::NAN])];
        assert!(Agreement::between(&a, &a).largest_difference.is_some_and(f64::is_nan));
    }

    #[test]
    fn texts_agree_where_they_are_the_same() {
        let text = |text: &str| Answer::Text(text.into());
        let found = Agreement::between(&[text("a"), text("b")], &[text("a"), text("c")]);
        assert_eq!((found.rows, found.same, found.largest_difference), (2, 1, None));
    }
}
