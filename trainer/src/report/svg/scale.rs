//! From values to places between 0 and 1, with ticks at round numbers.

use crate::report::number;

/// A linear scale.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::report) struct Scale {
    low: f64,
    high: f64,
    step: f64,
}

// === impl Scale ===

impl Scale {
    /// A scale whose ends are ticks around all values, at least `span` wide, and not beyond `bounds`.
    pub(in crate::report) fn around(
        values: impl IntoIterator<Item = f64>,
        span: f64,
        bounds: (f64, f64),
        ticks: usize,
    ) -> Self {
        let (mut low, mut high) = ends(values);
        let span = if span > 0.0 || high > low { span } else { 1.0 };
        if high - low < span {
            let middle = f64::midpoint(low, high);
            low = (middle - span / 2.0).clamp(bounds.0, (bounds.1 - span).max(bounds.0));
            high = low + span;
        }
        let step = step(high - low, ticks);
        Self { low: (low / step + 1e-9).floor() * step, high: (high / step - 1e-9).ceil() * step, step }
    }

    /// A scale around metrics in percent, or differences of such: not below 0 if none is negative, not above 100.
    pub(in crate::report) fn of_metrics(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().collect();
        let lowest = if values.iter().any(|value| *value < 0.0) { -100.0 } else { 0.0 };
        Self::around(values, 2.0, (lowest, 100.0), 5)
    }

    /// A scale that ends where the values end, with ticks at round numbers inside.
    pub(in crate::report) fn from_to(low: f64, high: f64, ticks: usize) -> Self {
        let (low, mut high) = ends([low, high]);
        if high <= low {
            high = low + 1.0;
        }
        Self { low, high, step: step(high - low, ticks) }
    }

    /// The same with ticks at whole numbers only.
    pub(in crate::report) fn whole(self) -> Self {
        Self { step: self.step.max(1.0).round(), ..self }
    }

    /// Where a value is: 0 at the low end, 1 at the high end.
    pub(in crate::report) fn at(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Whether a value is between the ends.
    pub(in crate::report) fn contains(&self, value: f64) -> bool {
        (-1e-6..=1.0 + 1e-6).contains(&self.at(value))
    }

    /// The ticks with their numbers.
    pub(in crate::report) fn ticks(&self) -> Vec<(f64, String)> {
        let decimals = number::decimals_for(self.step);
        let (first, last) = ((self.low / self.step - 1e-6).ceil(), (self.high / self.step + 1e-6).floor());
        let count = (last - first).clamp(0.0, 100.0) as usize;
        (0..=count)
            .map(|i| (first + i as f64) * self.step)
            .map(|value| (value, number::decimal(value, decimals)))
            .collect()
    }
}

/// The smallest and the largest value; 0 to 1 if there is none.
fn ends(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    // beyond this, differences and steps would overflow
    let values = values.into_iter().filter(|value| value.abs() < 1e300);
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    if low > high { (0.0, 1.0) } else { (low, high) }
}

/// The round step (1, 2 or 5 times a power of ten) that divides a span into about so many parts.
fn step(span: f64, parts: usize) -> f64 {
    let raw = (span / parts as f64).max(1e-300);
    let power = 10f64.powf(raw.log10().floor());
    [1.0, 2.0, 5.0].into_iter().find(|&m| m * power >= raw * 0.999).unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<String> {
        scale.ticks().into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        let scale = Scale::around([71.3, 84.9], 2.0, (0.0, 100.0), 5);
        assert_eq!(labels(&scale), ["70", "75", "80", "85"]);
        assert_eq!((scale.at(70.0), scale.at(85.0)), (0.0, 1.0));
        assert_eq!(
            labels(&Scale::around([-1.2, 3.4], 1.0, (-100.0, 100.0), 5)),
            ["−2", "−1", "0", "1", "2", "3", "4"]
        );
        assert_eq!(labels(&Scale::from_to(0.0, 1930.0, 4)), ["0", "500", "1000", "1500"]);
        assert_eq!(labels(&Scale::from_to(0.0, 2.0, 5).whole()), ["0", "1", "2"]);
    }

    #[test]
    fn a_scale_has_an_extent_whatever_the_values_are() {
        let same = Scale::around([100.0, 100.0], 2.0, (0.0, 100.0), 5);
        assert_eq!((same.at(98.0), same.at(100.0)), (0.0, 1.0));
        let worst = Scale::of_metrics([0.0, 0.0]);
        assert_eq!((worst.at(0.0), worst.at(2.0)), (0.0, 1.0));
        let zero = Scale::around([0.0, 0.0], 0.0, (0.0, f64::MAX), 3);
        assert_eq!((zero.at(0.0), zero.at(1.0)), (0.0, 1.0));
        let none = Scale::around([f64::NAN], 1.0, (0.0, 1.0), 5);
        assert!(none.contains(0.0) && none.contains(1.0) && !none.contains(1.1));
        for scale in [Scale::around([0.0, 1e299], 1.0, (0.0, 1e299), 4), Scale::from_to(3.0, 3.0, 4)] {
            assert!(scale.ticks().len() <= 8 && scale.at(3.0).is_finite(), "{scale:?}");
        }
    }
}
