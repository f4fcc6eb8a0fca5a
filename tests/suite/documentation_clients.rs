use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::prompts::{Server, Setup, story};
use crate::server_clients::python;
use crate::support::root;

/// The address that the page has for the server.
const SHOWN_ADDRESS: &str = "localhost:8080";

/// A program of the page, with what it prints.
struct Snippet<'a> {
    language: &'a str,
    code: &'a str,
    printed: &'a str,
}

/// The blocks of a page: their languages and what is in them.
fn blocks(page: &str) -> Vec<(&str, &str)> {
    let fenced = page.split("\n```").skip(1).step_by(2);
    fenced.map(|block| block.split_once('\n').unwrap()).collect()
}

fn snippets(page: &str) -> Vec<Snippet<'_>> {
    let blocks = blocks(page);
    let (pairs, rest) = blocks.as_chunks::<2>();
    assert!(rest.is_empty(), "a program is without what it prints");
    pairs
        .iter()
        .map(|&[(language, code), (text, printed)]| {
            assert_eq!(text, "text", "what a program prints stands below it:\n{code}");
            Snippet { language, code, printed }
        })
        .collect()
}

/// Whether a text is what a page shows, where `…` stands for anything.
fn is_shown(text: &str, shown: &str) -> bool {
    let (text, shown) = (text.trim_end(), shown.trim_end());
    let mut parts = shown.split('…');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

fn interpreter(language: &str, folder: &Path, code: &str) -> Command {
    let (file, mut command) = match language {
        "sh" => ("snippet.sh", Command::new("sh")),
        "python" => ("snippet.py", Command::new(python())),
        "javascript" => ("snippet.mjs", Command::new("node")),
        "go" => ("snippet.go", Command::new("go")),
        other => panic!("nothing runs {other}"),
    };
    if language == "go" {
        command.arg("run");
    }
    std::fs::write(folder.join(file), code).unwrap();
    command.arg(file).current_dir(folder);
    command
}

/// Runs the page's programs in these languages against a server as the page has it.
async fn run(languages: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let prompt = "tweet-sentiment.safetensors";
    std::fs::copy(root().join("prompts").join(prompt), folder.path().join(prompt)).unwrap();
    story().write(&folder.path().join("story.safetensors")).unwrap();
    let server = Server::start_on(folder, Setup::default()).await;
    let address = server.url.strip_prefix("http://").unwrap();

    let page = std::fs::read_to_string(root().join("docs/clients.md")).unwrap();
    let snippets = snippets(&page);
    for language in languages {
        let of_language: Vec<_> = snippets.iter().filter(|snippet| snippet.language == *language).collect();
        assert!(!of_language.is_empty(), "the page has nothing in {language}");
        for Snippet { code, printed, .. } in of_language {
            let scratch = tempfile::tempdir().unwrap();
            let mut command = interpreter(language, scratch.path(), &code.replace(SHOWN_ADDRESS, address));
            command.env("NO_PROXY", "*").env_remove("PYTHONPATH").stdin(Stdio::null()).kill_on_drop(true);
            let output = command.output().await.unwrap_or_else(|error| panic!("{language}: {error}"));
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert!(output.status.success(), "{code}\n{out}{err}");
            assert!(is_shown(&out, printed), "{code}\nprints\n{out}\nthe page shows\n{printed}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_programs_of_docs_clients_print_what_the_page_shows() {
    run(&["python"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs curl, Go and Node: make clients"]
async fn the_other_programs_of_docs_clients_print_what_the_page_shows() {
    run(&["sh", "go", "javascript"]).await;
}

#[test]
fn what_a_page_shows_is_compared_with_what_is_printed() {
    assert!(is_shown("a b c\n", "a … c"));
    assert!(is_shown("a\nb\n", "…\nb"));
    assert!(!is_shown("a b c", "a … d"));
    assert!(!is_shown("a b c", "b …"));
    assert!(!is_shown("a b", "a"));
}
