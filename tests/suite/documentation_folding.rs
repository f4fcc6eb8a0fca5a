use std::process::{Command, Stdio};

use serde_json::json;
use xprompt::exchange::Foreign;

use crate::server_clients::python;
use crate::support::root;

/// Numbers as in a trained matrix: some of each sign, none alike beside each other.
fn matrix(rows: usize, columns: usize, seed: usize) -> Vec<Vec<f64>> {
    let value = |i: usize| ((i * 37 + seed * 11) % 29) as f64 / 16.0 - 0.875;
    (0..rows).map(|row| (0..columns).map(|column| value(row * columns + column)).collect()).collect()
}

fn product(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let cell = |row: &[f64], column: usize| row.iter().zip(b).map(|(value, of_b)| value * of_b[column]).sum();
    a.iter().map(|row| (0..b[0].len()).map(|column| cell(row, column)).collect()).collect()
}

/// The lines of the page's section on folding that save rows.
fn saves(page: &str) -> Vec<&str> {
    let section = page.split("\n## Folding\n").nth(1).unwrap();
    let block = section.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(block.starts_with("import numpy\n"), "{block}");
    block.lines().skip(1).collect()
}

/// Runs a line of the page where the names that it takes for granted have values; returns what it saved.
fn saved_by(line: &str, granted: &str) -> Foreign {
    let folder = tempfile::tempdir().unwrap();
    let code = format!("import numpy\n{granted}\n{line}\n");
    let mut command = Command::new(python());
    command.args(["-c", &code]).current_dir(folder.path()).env_remove("PYTHONPATH").stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
    Foreign::from_npy(&std::fs::read(folder.path().join("prompt.npy")).unwrap(), "prompt.npy").unwrap()
}

fn assert_rows(line: &str, got: &Foreign, want: &[Vec<f64>]) {
    assert_eq!((got.tokens(), got.width), (want.len(), want[0].len()), "{line}");
    for (i, (got, want)) in got.rows.iter().zip(want.iter().flatten()).enumerate() {
        assert!((f64::from(*got) - want).abs() < 1e-5, "{line}: value {i} is {got}, not {want}");
    }
}

#[test]
fn a_low_rank_prompt_is_folded_into_its_rows_as_the_page_says() {
    let page = std::fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    let line = *saves(&page).iter().find(|line| line.contains("decomposed prompts")).unwrap();
    let (a, b) = (matrix(10, 4, 1), matrix(4, 64, 2));
    let granted = format!(
        "a = numpy.array({}, dtype='float32')\nb = numpy.array({}, dtype='float32')",
        json!(a),
        json!(b)
    );
    assert_rows(line, &saved_by(line, &granted), &product(&a, &b));
}

#[test]
fn a_residual_prompt_is_folded_into_its_rows_as_the_page_says() {
    let page = std::fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    let line = *saves(&page).iter().find(|line| line.contains("residual prompts")).unwrap();
    let (rows, down, up) = (matrix(10, 64, 3), matrix(64, 8, 4), matrix(8, 64, 5));
    let granted = format!(
        "rows, down, up = (numpy.array(x, dtype='float32') for x in {})\n\
         def network(x):\n    return numpy.maximum(x @ down, 0) @ up",
        json!([rows, down, up])
    );
    let hidden: Vec<Vec<f64>> = product(&rows, &down)
        .into_iter()
        .map(|row| row.into_iter().map(|value| value.max(0.0)).collect())
        .collect();
    let change = product(&hidden, &up);
    let want: Vec<Vec<f64>> = rows
        .iter()
        .zip(&change)
        .map(|(row, change)| row.iter().zip(change).map(|(value, change)| value + change).collect())
        .collect();
    assert_rows(line, &saved_by(line, &granted), &want);
}

#[test]
fn every_way_to_fold_that_the_page_has_is_run() {
    let page = std::fs::read_to_string(root().join("docs/compatibility.md")).unwrap();
    let lines = saves(&page);
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("numpy.save(")), "{lines:?}");
}
