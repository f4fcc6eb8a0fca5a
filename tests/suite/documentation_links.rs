use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::support::root;

/// Folders that hold what others made.
const NOT_OURS: [&str; 2] = ["target", "data"];

/// A page: its links, each with its line, and what can be linked to in it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    links: Vec<(usize, String)>,
    anchors: BTreeSet<String>,
}

fn pages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && !NOT_OURS.contains(&name.as_str()) {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

/// The anchor that a heading has on the web: letters, digits, hyphens and underscores in lower case, hyphens for spaces.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    // of a link in a heading its text counts
    let parts = heading.split("](").enumerate();
    let text =
        parts.map(|(i, part)| if i == 0 { part } else { part.split_once(')').map_or("", |(_, rest)| rest) });
    text.collect::<String>()
        .trim()
        .to_lowercase()
        .chars()
        .filter(kept)
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

/// A line without what stands in backquotes.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

fn read(text: &str) -> Page {
    let mut page = Page::default();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut fenced = false;
    for (i, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        let heading = line.trim_start_matches('#');
        if heading.len() < line.len() && heading.starts_with(' ') {
            let name = anchor(heading);
            let before = seen.entry(name.clone()).or_default();
            page.anchors.insert(if *before == 0 { name } else { format!("{name}-{before}") });
            *before += 1;
        }
        for link in without_code(line).split("](").skip(1) {
            page.links.push((i + 1, link.split(')').next().unwrap_or_default().to_owned()));
        }
    }
    page
}

/// What is wrong with the links of these pages.
fn broken(paths: &[PathBuf]) -> Vec<String> {
    let read_at = |path: &Path| read(&std::fs::read_to_string(path).unwrap());
    let mut problems = Vec::new();
    for path in paths {
        for (line, link) in read_at(path).links {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(file, at)| (file, Some(at)));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let place = format!("{}:{line}: {link}", path.display());
            if !target.exists() {
                problems.push(format!("{place}: there is no such file"));
            } else if anchor.is_some_and(|anchor| !read_at(&target).anchors.contains(anchor)) {
                problems.push(format!("{place}: there is no such heading"));
            }
        }
    }
    problems
}

#[test]
fn every_link_of_the_documentation_leads_somewhere() {
    let mut found = Vec::new();
    pages(&root(), &mut found);
    assert!(found.len() > 15, "{found:?}");
    let problems = broken(&found);
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn every_page_of_docs_is_in_the_book() {
    let summary = root().join("docs/SUMMARY.md");
    let listed: BTreeSet<PathBuf> = read(&std::fs::read_to_string(&summary).unwrap())
        .links
        .iter()
        .map(|(_, link)| root().join("docs").join(link).canonicalize().unwrap())
        .collect();
    let mut found = Vec::new();
    pages(&root().join("docs"), &mut found);
    for page in found.into_iter().filter(|page| *page != summary) {
        assert!(
            listed.contains(&page.canonicalize().unwrap()),
            "{} is not in docs/SUMMARY.md",
            page.display()
        );
    }
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one.md"), folder.path().join("two.md"));
    std::fs::write(
        &one,
        "# One\n[a](two.md) [b](two.md#a--b) [c](#one)\n`[d](no.md)`\n```\n[e](no.md)\n```\n",
    )
    .unwrap();
    std::fs::write(&two, "# A & `b`\n# A & b\n[f](#a--b-1) [g](no.md) [h](one.md#two)\n").unwrap();
    let problems = broken(&[one, two]);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("two.md:3: no.md: there is no such file"), "{problems:?}");
    assert!(problems[1].contains("two.md:3: one.md#two: there is no such heading"), "{problems:?}");
}
