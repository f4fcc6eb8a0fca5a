//! The table that a run ends with.

use xprompt_trainer::summary::Summary;
use xprompt_trainer::table;

use crate::sample::Sample;

fn lines(summary: &Summary) -> Vec<String> {
    table::of(summary).lines().map(str::to_owned).collect()
}

#[test]
fn the_table_fits_80_columns_with_every_arm_and_many_seeds() {
    let summary = Sample { seeds: 12, ..Sample::default() }.summary();
    let lines = lines(&summary);
    let widest = lines.iter().map(|line| line.chars().count()).max().unwrap();
    assert!(widest <= 80, "{}", lines.join("\n"));
    for arm in &summary.table {
        assert!(lines.iter().any(|line| line.starts_with(&format!("{} ", arm.name))), "{}", arm.name);
    }
}

#[test]
fn a_row_gives_the_value_its_deviation_and_the_differences_on_the_last_part() {
    let mut summary = Sample { seeds: 5, ..Sample::default() }.summary();
    let arm = summary.table.iter_mut().find(|arm| arm.name == "xprompt").unwrap();
    let test = arm.splits.last_mut().unwrap();
    let value = &mut test.values[0];
    (value.mean, value.deviation, value.low, value.high) = (0.834, Some(0.012), 0.81, 0.858);
    let (tuned, continued) = (test.over_tuned.as_mut().unwrap(), test.over_continued.as_mut().unwrap());
    (tuned.value, tuned.low, tuned.high) = (0.028, 0.015, 0.041);
    (continued.value, continued.low, continued.high) = (0.005, -0.008, 0.018);
    let lines = lines(&summary);
    assert_eq!(lines[0], "question-types: Accuracy on test, %; 5 seeds, mean ± deviation; [95 % interval]");
    let row = lines.iter().find(|line| line.starts_with("xprompt ")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    let want = "xprompt 83.4 ± 1.2 [81.0, 85.8] +2.8 [+1.5, +4.1] +0.5 [−0.8, +1.8]";
    assert_eq!(words.join(" "), want);
    let pruned = lines.iter().find(|line| line.starts_with("piece_pruned ")).unwrap();
    assert!(
        pruned.ends_with(']') && pruned.matches('[').count() == 1,
        "not retrained, not compared: {pruned}"
    );
    assert!(lines.iter().any(|line| line.starts_with("xprompt keeps 8 of 20 tokens, ")));
}
