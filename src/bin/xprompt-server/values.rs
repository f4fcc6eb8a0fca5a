//! Reading single values.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A value that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Secret(String);

/// Reads a count of 1 or more.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("is 0, it has to be 1 or more".into()),
        Ok(count) => Ok(count),
        Err(_) => Err("is no whole number of 1 or more".into()),
    }
}

/// Reads a share of 0 to 100.
pub(crate) fn percent(text: &str) -> Result<u8, String> {
    let percent = text.parse().ok().filter(|&percent: &u8| percent <= 100);
    percent.ok_or_else(|| "is no whole number from 0 to 100".into())
}

/// Reads a time that is not 0.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() { Err("is 0, it has to be 1ms or more".into()) } else { Ok(time) }
}

/// Reads a time such as `500ms`, `30s` or `2m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => return Err("a time needs a unit: write for example 500ms, 30s or 2m".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a time is a whole number and ms, s or m".to_owned())?;
    // a day is longer than anything here may wait
    match number.checked_mul(milliseconds) {
        Some(time) if time <= 86_400_000 => Ok(Duration::from_millis(time)),
        _ => Err("a time is a day at most".into()),
    }
}

// === impl Secret ===

impl Secret {
    /// The value, for the place that needs it.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(not set)" } else { "(set)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["30", "", "s", "1h", "-1s", "99999999999999999999s", "18446744073709551615m", "2000m"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(time("0s").is_err());
    }

    #[test]
    fn counts_and_shares_have_bounds() {
        assert_eq!((positive("1"), percent("100")), (Ok(1), Ok(100)));
        assert!(positive("0").is_err() && positive("-1").is_err() && percent("101").is_err());
    }

    #[test]
    fn a_secret_is_not_in_its_debug_text() {
        let secret: Secret = "api-key=hunter2".parse().unwrap();
        assert_eq!(format!("{secret:?}"), "(set)");
        assert_eq!(secret.reveal(), "api-key=hunter2");
    }
}
