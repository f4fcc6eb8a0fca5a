//! Drawing rows of train: a few of them, and dev. What is drawn depends on the rows' number, labels and groups, on
//! the settings and on a seed of the data; never on a run's seed, so that all runs of a task share it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use serde_json::json;
use xprompt::fingerprint;

use super::{DataError, Entry};
use crate::example::{Example, Target};
use crate::task_file::Data;

/// The share of train that becomes dev where no other is given.
const DEV_SHARE: f64 = 0.2;
/// What dev is drawn by.
const DEV_SEED: u64 = 42;

/// Train and, where `[data]` names no dev, the dev that is drawn from it. Rows keep their order. Those of a group stay
/// together, and where a share is drawn, those with the same input do.
///
/// # Errors
/// If there are too few rows.
pub fn divide(data: &Data, rows: Vec<Entry>) -> Result<(Vec<Entry>, Option<Vec<Entry>>), DataError> {
    let drawn = data.dev.is_empty();
    let examples: Vec<&Example> = rows.iter().map(|row| &row.example).collect();
    let (train, dev) = match data.shots {
        Some(shots) => few(&units(&examples, |example| example.group), shots, drawn, data.shots_seed)?,
        None if drawn => share(&units(&examples, side), &examples, data.dev_share.unwrap_or(DEV_SHARE))?,
        None => return Ok((rows, None)),
    };
    let (train, dev) = take(rows, &train, &dev);
    Ok((train, drawn.then_some(dev)))
}

/// Parts examples in two: the second has a share of them, of each label as nearly as groups allow. The same examples are
/// always parted alike.
///
/// # Errors
/// If there are too few.
pub fn part(examples: Vec<Example>, of: f64) -> Result<(Vec<Example>, Vec<Example>), DataError> {
    if of == 0.0 {
        return Ok((examples, Vec::new()));
    }
    let all: Vec<&Example> = examples.iter().collect();
    let (rest, part) = share(&units(&all, side), &all, of)?;
    Ok(take(examples, &rest, &part))
}

/// Two choices of rows that have none in common.
fn take<T>(rows: Vec<T>, first: &[usize], second: &[usize]) -> (Vec<T>, Vec<T>) {
    let mut rows: Vec<Option<T>> = rows.into_iter().map(Some).collect();
    let mut chosen = |chosen: &[usize]| chosen.iter().filter_map(|&i| rows[i].take()).collect();
    (chosen(first), chosen(second))
}

/// Rows that stay together: those that agree in a key, or each by itself.
fn units<K: Eq + Hash>(rows: &[&Example], key: impl Fn(&Example) -> Option<K>) -> Vec<Vec<usize>> {
    let mut units: Vec<Vec<usize>> = Vec::new();
    let mut known = HashMap::new();
    for (i, row) in rows.iter().enumerate() {
        let unit = match key(row) {
            Some(key) => *known.entry(key).or_insert(units.len()),
            None => units.len(),
        };
        if unit == units.len() {
            units.push(Vec::new());
        }
        units[unit].push(i);
    }
    units
}

/// What must not be on both sides: a group, else an input.
fn side(example: &Example) -> Option<(Option<usize>, String)> {
    let input = if example.group.is_none() { json!(example.input).to_string() } else { String::new() };
    Some((example.group, input))
}

/// A random order that no library's version changes: by the hashes of the numbers.
fn order(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_cached_key(|i| fingerprint::of_bytes(format!("{seed} {i}").as_bytes()));
    order
}

/// So many units for train, and as many others for dev if it is drawn as well.
fn few(
    units: &[Vec<usize>],
    shots: usize,
    dev: bool,
    seed: u64,
) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    let order = order(units.len(), seed);
    let needed = shots.saturating_mul(1 + usize::from(dev));
    if needed > units.len() {
        let also = if dev { " for train and as many for dev" } else { "" };
        return Err(DataError::Draw(format!(
            "data.shots asks for {shots}{also}, but train has {}; ask for fewer",
            units.len()
        )));
    }
    let rows = |chosen: &[usize]| sorted(chosen.iter().flat_map(|&unit| units[unit].iter().copied()));
    Ok((rows(&order[..shots]), rows(&order[shots..needed])))
}

/// A share of the rows for dev, of each label as nearly as groups allow; the rest for train.
fn share(units: &[Vec<usize>], rows: &[&Example], share: f64) -> Result<(Vec<usize>, Vec<usize>), DataError> {
    let label = |row: usize| match rows[row].target {
        Target::Label(label) => label,
        Target::Text { .. } => 0,
    };
    let labels = (0..rows.len()).map(label).max().map_or(0, |most| most + 1);
    let mut counts = vec![0; labels];
    (0..rows.len()).for_each(|row| counts[label(row)] += 1);
    let mut missing: Vec<i64> = quotas(&counts, share).into_iter().map(|quota| quota as i64).collect();
    let (mut train, mut dev) = (Vec::new(), Vec::new());
    for unit in order(units.len(), DEV_SEED).into_iter().map(|unit| &units[unit]) {
        let mut taken: BTreeMap<usize, i64> = BTreeMap::new();
        unit.iter().for_each(|&row| *taken.entry(label(row)).or_default() += 1);
        let further: i64 =
            taken.iter().map(|(&label, &n)| (missing[label] - n).abs() - missing[label].abs()).sum();
        if further < 0 {
            taken.into_iter().for_each(|(label, n)| missing[label] -= n);
            dev.extend(unit);
        } else {
            train.extend(unit);
        }
    }
    if dev.is_empty() || train.is_empty() {
        return Err(DataError::Draw(format!(
            "dev cannot be drawn from {} rows of train in {} groups; name its files with data.dev, or change \
             data.dev_share",
            rows.len(),
            units.len()
        )));
    }
    Ok((sorted(train), sorted(dev)))
}

/// How many rows of each label dev gets: the share of each rounded so that the sum is right too (largest
/// remainders), and never a label's last row.
fn quotas(counts: &[usize], share: f64) -> Vec<usize> {
    let exact: Vec<f64> = counts.iter().map(|&count| share * count as f64).collect();
    let most = |label: usize| counts[label].saturating_sub(1);
    let mut quotas: Vec<usize> = (0..counts.len()).map(|i| (exact[i] as usize).min(most(i))).collect();
    let wanted = (share * counts.iter().sum::<usize>() as f64).round() as usize;
    let mut by_remainder: Vec<usize> = (0..counts.len()).filter(|&i| quotas[i] < most(i)).collect();
    by_remainder.sort_by(|&a, &b| exact[b].fract().total_cmp(&exact[a].fract()).then(a.cmp(&b)));
    let left = wanted.max(1).saturating_sub(quotas.iter().sum());
    by_remainder.into_iter().take(left).for_each(|label| quotas[label] += 1);
    quotas
}

fn sorted(rows: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let mut rows: Vec<usize> = rows.into_iter().collect();
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An example that its source tells from others.
    fn example(number: usize, label: usize, input: usize, group: Option<usize>) -> Example {
        let input = [("text".to_owned(), json!(input))].into_iter().collect();
        let target = Target::Label(label);
        Example { input, source: vec![number as u32], target, accepted: Vec::new(), group }
    }

    proptest! {
        #[test]
        fn parting_loses_no_example_and_keeps_groups_and_equal_inputs_together(
            rows in proptest::collection::vec((0usize..3, 0usize..40, proptest::option::of(0usize..8)), 0..80),
            share in 0.0f64..1.0,
        ) {
            let rows = rows.into_iter().enumerate();
            let examples: Vec<Example> =
                rows.map(|(i, (label, input, group))| example(i, label, input, group)).collect();
            // too few rows are an error
            if let Ok((rest, part_of_them)) = part(examples.clone(), share) {
                let mut all = [&rest[..], &part_of_them].concat();
                all.sort_by_key(|example| example.source[0]);
                prop_assert_eq!(all, examples);
                for example in &rest {
                    prop_assert!(part_of_them.iter().all(|other| side(other) != side(example)));
                }
                prop_assert!(!rest.is_empty() || share == 0.0);
            }
        }
    }

    #[test]
    fn quotas_round_so_that_the_sum_is_right() {
        assert_eq!(quotas(&[10, 10, 5], 0.2), [2, 2, 1]);
        assert_eq!(quotas(&[2, 2, 2, 2, 2], 0.2), [1, 1, 0, 0, 0]);
        assert_eq!(quotas(&[7, 3], 0.5), [4, 1], "of equal remainders the first label gets the row");
        assert_eq!(quotas(&[97, 1, 2], 0.4), [39, 0, 1], "a label's last row stays in train");
        assert_eq!(quotas(&[3, 1], 0.01), [1, 0], "dev gets a row at least");
    }

    /// `for i in 0 1 2 3 4 5; do printf "42 $i" | sha256sum; done` begins with fd, 73, 38, c27, c12, 65.
    #[test]
    fn the_order_is_that_of_the_hashes_of_the_numbers() {
        assert_eq!(order(6, 42), [2, 5, 1, 4, 3, 0]);
    }
}
