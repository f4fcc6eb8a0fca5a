//! Numbers as a reader wants them: a true minus sign, groups of three digits, units.

/// Decimals that tell two neighbours `step` apart; at most 6.
pub(super) fn decimals_for(step: f64) -> usize {
    (0..6)
        .find(|&decimals| {
            let scaled = step * 10f64.powi(decimals);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.abs()
        })
        .map_or(6, |decimals| decimals as usize)
}

/// A number with so many decimals, such as `−1 234.5`; very large ones as powers of ten.
pub(crate) fn decimal(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    if value.abs() >= 1e15 {
        return format!("{value:.1e}").replace('-', "−");
    }
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) && whole.len() > 4 {
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.'));
    let sign = if value < 0.0 && !is_zero { "−" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

/// A share or a metric times a hundred, with one decimal and no unit.
pub(crate) fn percent(share: f64) -> String {
    decimal(100.0 * share, 1)
}

/// A difference of metrics in points, with its sign.
pub(crate) fn points(difference: f64) -> String {
    let text = percent(difference);
    if difference > 0.0 && text != "0.0" { format!("+{text}") } else { text }
}

/// Both ends of an interval of [`percent`].
pub(super) fn interval(low: f64, high: f64) -> String {
    format!("{} to {}", percent(low), percent(high))
}

/// Both ends of an interval of [`points`].
pub(super) fn interval_of_points(low: f64, high: f64) -> String {
    format!("{} to {}", points(low), points(high))
}

/// A number of things, or a mean of such numbers with one decimal.
pub(crate) fn count(mean: f64) -> String {
    decimal(mean, usize::from(mean.fract() != 0.0))
}

/// A size, such as `20.5 kB`.
pub(crate) fn bytes(size: f64) -> String {
    match size {
        _ if size >= 1e6 => format!("{}\u{a0}MB", decimal(size / 1e6, 1)),
        _ if size >= 1e3 => format!("{}\u{a0}kB", decimal(size / 1e3, 1)),
        _ => format!("{}\u{a0}B", decimal(size, 0)),
    }
}

/// A wall time, such as `2 h 05 min`.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds >= 3599.5 => {
            let minutes = (seconds / 60.0).round();
            format!("{}\u{a0}h {:02.0}\u{a0}min", decimal((minutes / 60.0).floor(), 0), minutes % 60.0)
        }
        _ if seconds >= 59.95 => {
            let seconds = seconds.round();
            format!("{:.0}\u{a0}min {:02.0}\u{a0}s", (seconds / 60.0).floor(), seconds % 60.0)
        }
        _ => format!("{}\u{a0}s", decimal(seconds, 1)),
    }
}

/// Three significant digits: for a score whose size says nothing by itself.
pub(super) fn significant(value: f64) -> String {
    if (-4..6).contains(&power_of_ten(value)) {
        decimal(value, decimals_of(value))
    } else {
        format!("{value:.2e}").replace('-', "−")
    }
}

/// Decimals that show three significant digits of a value, for a column that the value is the largest of.
pub(crate) fn decimals_of(value: f64) -> usize {
    (2 - power_of_ten(value)).clamp(0, 12) as usize
}

/// The power of ten of a value's first digit, as rounded to three of them.
fn power_of_ten(value: f64) -> i32 {
    let scientific = format!("{value:.2e}");
    scientific.split_once('e').and_then(|(_, power)| power.parse().ok()).unwrap_or(0)
}

/// The text with ordinary spaces only, for places where lines are not wrapped.
pub(crate) fn plain_spaces(text: &str) -> String {
    text.replace(['\u{a0}', '\u{202f}'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_a_person_would_write_them() {
        let shown = [
            (percent(0.8407), "84.1"),
            (percent(-0.0001), "0.0"),
            (points(0.031), "+3.1"),
            (points(-0.004), "−0.4"),
            (points(0.0), "0.0"),
            (interval_of_points(-0.012, 0.05), "−1.2 to +5.0"),
            (count(20.0), "20"),
            (count(7.25), "7.2"),
            (count(10240.0), "10\u{202f}240"),
            (count(5120.0), "5120"),
            (decimal(1e300, 0), "1.0e300"),
            (decimal(f64::INFINITY, 0), "–"),
            (bytes(999.0), "999\u{a0}B"),
            (bytes(20_480.0), "20.5\u{a0}kB"),
            (duration(4.25), "4.2\u{a0}s"),
            (duration(59.99), "1\u{a0}min 00\u{a0}s"),
            (duration(751.0), "12\u{a0}min 31\u{a0}s"),
            (duration(7500.0), "2\u{a0}h 05\u{a0}min"),
            (significant(0.031_25), "0.0312"),
            (significant(f64::from(0.01f32)), "0.0100"),
            (significant(12.345), "12.3"),
            (significant(0.000_012), "1.20e−5"),
            (significant(0.0), "0.00"),
            (significant(f64::INFINITY), "–"),
        ];
        for (got, want) in shown {
            assert_eq!(got, want);
        }
    }
}
