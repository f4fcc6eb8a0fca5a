//! Pages of the documentation that are made from the program: they are kept in the repository, and compared.

use std::path::{Path, PathBuf};

/// Asks to write pages instead of comparing them; `make reference` sets it.
const REWRITE: &str = "XPROMPT_REWRITE_REFERENCE";

/// Compares a page of docs/reference with what it has to be.
pub(crate) fn is_in_step(name: &str, text: &str) {
    let path = folder().join(name);
    let text =
        format!("<!-- Made by `make reference`: change what it is made from. -->\n\n{}\n", text.trim_end());
    if std::env::var_os(REWRITE).is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let there = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = there.lines().zip(text.lines()).position(|(one, other)| one != other);
    assert!(
        there == text,
        "docs/reference/{name} is not in step from line {} on; `make reference` rewrites it",
        differs.map_or(0, |line| line + 1)
    );
}

fn folder() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().map(|folder| folder.join("docs/reference")).find(|folder| folder.is_dir()).unwrap()
}

/// A text as a cell of a table.
pub(crate) fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}
