//! Metrics over predictions.

/// Share of predictions that are right; 0 for none.
#[must_use]
pub fn accuracy(predicted: &[usize], gold: &[usize]) -> f64 {
    share(predicted.iter().zip(gold).filter(|(p, g)| p == g).count(), gold.len())
}

/// Unweighted mean of the F1 of each of `classes`; a class that is neither predicted nor gold counts 0, as
/// scikit-learn's `f1_score(average="macro", labels=range(classes), zero_division=0)` does.
#[must_use]
pub fn macro_f1(predicted: &[usize], gold: &[usize], classes: usize) -> f64 {
    let f1 = |class: usize| {
        let hits = predicted.iter().zip(gold).filter(|&(&p, &g)| p == class && g == class).count();
        let named = predicted.iter().filter(|&&p| p == class).count();
        let real = gold.iter().filter(|&&g| g == class).count();
        share(2 * hits, named + real)
    };
    (0..classes).map(f1).sum::<f64>() / classes.max(1) as f64
}

/// Share of texts that equal their gold text, white space at the ends aside.
#[must_use]
pub fn exact_match(predicted: &[String], gold: &[String]) -> f64 {
    share(predicted.iter().zip(gold).filter(|(p, g)| p.trim() == g.trim()).count(), gold.len())
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of scikit-learn's `accuracy_score` and `f1_score(average="macro")` on the same lists.
    #[test]
    fn accuracy_and_macro_f1_agree_with_scikit_learn() {
        let (predicted, gold) = ([0, 1, 2, 0, 1, 0], [0, 2, 2, 0, 1, 1]);
        assert!((accuracy(&predicted, &gold) - 4.0 / 6.0).abs() < 1e-12);
        let f1 = (0.8 + 0.5 + 2.0 / 3.0) / 3.0;
        assert!((macro_f1(&predicted, &gold, 3) - f1).abs() < 1e-12);
    }
}
