//! The hub is a small server that speaks its protocol, with the bundled model and others made here.

mod fake;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use xprompt::engine;
use xprompt::graph::DType;
use xprompt::hub::{Event, Hub, HubError, model_folder};
use xprompt::t5::Checkpoint;
use xprompt::task::Tokenizer;

use self::fake::{COMMIT, FakeHub, Fault};
use crate::server_process::{Process, command};
use crate::support::{fixtures, root};
use crate::weights;

const NANO: &str = "xprompt/t5-nano";

/// A cache, and a hub that has the bundled model.
struct Place {
    server: FakeHub,
    cache: TempDir,
}

impl Place {
    fn new(faults: Vec<Fault>) -> Self {
        let folder = root().join("models/t5-nano");
        let files = ["config.json", "tokenizer.json", "model.safetensors"]
            .map(|name| (name.to_owned(), fs::read(folder.join(name)).unwrap()));
        let more = [("README.md".to_owned(), b"# a card".to_vec())];
        Self::with(files.into_iter().chain(more).collect(), faults)
    }

    fn with(files: Vec<(String, Vec<u8>)>, faults: Vec<Fault>) -> Self {
        Self { server: FakeHub::start(NANO, files, faults), cache: tempfile::tempdir().unwrap() }
    }

    fn hub(&self) -> Hub {
        Hub::new(self.server.address(), self.cache.path()).with_pause(Duration::from_millis(1))
    }

    fn fetch(&self) -> Result<PathBuf, HubError> {
        self.hub().fetch(&NANO.parse().unwrap(), &mut |_| {})
    }

    fn repository(&self) -> PathBuf {
        self.cache.path().join("models--xprompt--t5-nano")
    }

    /// Files that are visible as the model's.
    fn visible(&self) -> Vec<String> {
        names(&self.repository().join("snapshots").join(COMMIT))
    }

    fn error(&self) -> String {
        let error = self.fetch().unwrap_err().to_string();
        assert!(error.starts_with("xprompt/t5-nano@main"), "{error} names the model and the revision");
        error
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What Python's huggingface_hub looks for: refs, blobs by ETag, and relative links in the snapshot of the commit.
#[test]
fn a_fetched_model_lies_as_python_has_it_and_is_used_like_a_folder() {
    let place = Place::new(Vec::new());
    let mut events = Vec::new();
    let folder = place
        .hub()
        .fetch(&NANO.parse().unwrap(), &mut |event| {
            if let Event::Done { file } = event {
                events.push(file.to_owned());
            }
        })
        .unwrap();
    assert_eq!(events, ["config.json", "tokenizer.json", "model.safetensors"], "weights come last");
    assert_eq!(folder, place.repository().join("snapshots").join(COMMIT));
    assert_eq!(
        place.visible(),
        ["config.json", "model.safetensors", "tokenizer.json"],
        "no more than is needed"
    );
    assert_eq!(fs::read_to_string(place.repository().join("refs/main")).unwrap(), COMMIT);
    for file in place.visible() {
        let etag = place.server.etag(&file);
        assert_eq!(fs::read_link(folder.join(&file)).unwrap(), Path::new("../../blobs").join(&etag));
        assert_eq!(
            fs::read(folder.join(&file)).unwrap(),
            fs::read(root().join("models/t5-nano").join(&file)).unwrap()
        );
    }
    assert_eq!(names(&place.repository().join("blobs")).len(), 3);
    let locks = names(&place.cache.path().join(".locks/models--xprompt--t5-nano"));
    assert_eq!(locks.len(), 3, "a lock for each file, where Python looks for it");

    let checkpoint = Checkpoint::open(&folder).unwrap();
    let config = checkpoint.config();
    let tokenizer = Tokenizer::open(&folder, config.vocab_size, config.eos_token_id).unwrap();
    assert_eq!(engine::base(&checkpoint, &tokenizer).model.name, NANO, "prompts know it by the hub's name");
    let requests = place.server.requests();
    assert!(!requests.iter().any(|request| request.contains("README")), "{requests:?}");
}

#[test]
fn what_the_cache_has_is_not_fetched_again() {
    let place = Place::new(Vec::new());
    place.fetch().unwrap();
    let before = place.server.requests().len();
    let folder = place.fetch().unwrap();
    assert_eq!(place.server.requests().len(), before + 1, "whether main is still the same commit");
    let hub = place.hub();
    let commit = format!("{NANO}@{COMMIT}");
    assert_eq!(hub.fetch(&commit.parse().unwrap(), &mut |_| {}).unwrap(), folder);
    assert_eq!(place.server.requests().len(), before + 1, "a commit never changes");
}

#[test]
fn offline_only_the_cache_is_asked() {
    let place = Place::new(Vec::new());
    let offline = || place.hub().offline(true).fetch(&NANO.parse().unwrap(), &mut |_| {});
    let error = offline().unwrap_err().to_string();
    assert!(error.starts_with("xprompt/t5-nano@main is not whole in the cache"), "{error}");
    assert!(error.contains("xprompt-trainer fetch xprompt/t5-nano@main"), "{error}");
    assert!(place.server.requests().is_empty());
    let folder = place.fetch().unwrap();
    assert_eq!(offline().unwrap(), folder);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    assert!(offline().unwrap_err().to_string().contains("model.safetensors"));
}

#[test]
fn a_hub_that_is_away_leaves_what_it_had_last() {
    let mut place = Place::new(Vec::new());
    let folder = place.fetch().unwrap();
    place.server.stop();
    let mut told = String::new();
    let again = place.hub().fetch(&NANO.parse().unwrap(), &mut |event| told = format!("{event:?}"));
    assert_eq!(again.unwrap(), folder);
    assert!(told.starts_with("Cached"), "{told}");
    let other = place.hub().fetch(&"xprompt/other".parse().unwrap(), &mut |_| {}).unwrap_err().to_string();
    assert!(other.contains("cannot be reached") && other.contains("HF_ENDPOINT"), "{other}");
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_stopped() {
    let place = Place::new(vec![Fault::BreakOff { file: "model.safetensors", after: 100_000 }; 3]);
    let mut breaks = 0;
    let again = |event: Event<'_>| breaks += usize::from(matches!(event, Event::Again { .. }));
    let folder = place.hub().fetch(&NANO.parse().unwrap(), &mut { again }).unwrap();
    assert_eq!(breaks, 3);
    assert_eq!(place.server.ranges(), ["bytes=100000-", "bytes=200000-", "bytes=300000-"]);
    let whole = fs::read(root().join("models/t5-nano/model.safetensors")).unwrap();
    assert!(fs::read(folder.join("model.safetensors")).unwrap() == whole);
}

#[test]
fn a_fetch_that_was_given_up_goes_on_with_the_next() {
    // more breaks than one fetch takes, and none of them brings a byte
    let break_off = |after| Fault::BreakOff { file: "model.safetensors", after };
    let faults = [break_off(100_000)].into_iter().chain(vec![break_off(0); 5]).collect();
    let place = Place::new(faults);
    let error = place.error();
    assert!(error.contains(", model.safetensors: ") && error.contains("goes on where it stopped"), "{error}");
    assert_eq!(place.visible(), ["config.json", "tokenizer.json"], "what is not whole is not visible");
    assert!(!place.repository().join("refs/main").exists());
    place.fetch().unwrap();
    assert!(
        place.server.ranges().iter().all(|range| range == "bytes=100000-"),
        "{:?}",
        place.server.ranges()
    );
}

#[test]
fn a_hub_without_ranges_sends_everything_again() {
    let breaks = Fault::BreakOff { file: "model.safetensors", after: 100_000 };
    let place = Place::new(vec![breaks, Fault::NoRanges]);
    let folder = place.fetch().unwrap();
    let whole = fs::read(root().join("models/t5-nano/model.safetensors")).unwrap();
    assert!(fs::read(folder.join("model.safetensors")).unwrap() == whole);
}

#[test]
fn bytes_that_are_not_those_of_the_hash_are_refused() {
    for file in ["config.json", "model.safetensors"] {
        let place = Place::new(vec![Fault::Flip { file }]);
        let error = place.error();
        assert!(error.contains(&format!(", {file}: its hash is ")), "{error}");
        assert!(!place.visible().contains(&file.to_owned()), "it is not visible");
        let blobs = names(&place.repository().join("blobs"));
        assert!(!blobs.iter().any(|blob| blob.starts_with(&place.server.etag(file))), "it was thrown away");
        place.fetch().unwrap();
    }
}

#[test]
fn a_size_that_is_not_what_was_said_is_refused() {
    let place = Place::new(vec![Fault::Longer { file: "config.json" }]);
    assert!(place.error().contains(", config.json: "));
    assert!(place.visible().is_empty());
    place.fetch().unwrap();
}

#[test]
fn refusals_say_what_they_mean_and_what_to_do() {
    for (status, code, says) in [
        (401, "RepoNotFound", "there is no such model, or only for some; look at the name, or set HF_TOKEN"),
        (404, "RevisionNotFound", "the model has no such branch, tag or commit"),
        (403, "GatedRepo", "the model is gated; accept its conditions at http://"),
        (401, "", "there is no such model"),
        (403, "", "HF_TOKEN is not a token that may read it"),
        (404, "", "there is no such model"),
        (429, "", "too many requests"),
        (503, "", "Service Unavailable; try again later"),
    ] {
        let place = Place::new(vec![Fault::Refuse { part: "/api/", status, code }; 5]);
        let error = place.error();
        assert!(error.contains(&format!("the hub answers {status}: {says}")), "{error}");
    }
    let gone = Fault::Refuse { part: "/tokenizer.json", status: 404, code: "EntryNotFound" };
    let error = Place::new(vec![gone]).error();
    assert!(
        error.contains(", tokenizer.json: the hub answers 404: the revision has no such file"),
        "{error}"
    );
}

#[test]
fn a_busy_hub_is_asked_again() {
    let busy = |status| Fault::Refuse { part: "/api/", status, code: "" };
    Place::new(vec![busy(503), busy(429)]).fetch().unwrap();
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    // large files are elsewhere
    let place = Place::new(vec![Fault::Elsewhere]);
    place.hub().with_token("hf_secret").fetch(&NANO.parse().unwrap(), &mut |_| {}).unwrap();
    let requests = place.server.requests();
    let (elsewhere, hub): (Vec<_>, Vec<_>) =
        requests.iter().partition(|request| request.contains("/elsewhere/"));
    assert!(
        !elsewhere.is_empty() && elsewhere.iter().all(|request| request.ends_with(" nobody")),
        "{elsewhere:?}"
    );
    assert!(hub.iter().all(|request| request.ends_with(" Bearer hf_secret")), "{hub:?}");
}

#[test]
fn shards_come_with_their_index_and_a_byt5_needs_no_tokenizer() {
    let made = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(fixtures().join("variants/byt5/config.json")).unwrap();
    fs::write(made.path().join("config.json"), config.replace("\"vocab_size\": 96", "\"vocab_size\": 384"))
        .unwrap();
    weights::write(made.path(), 1, 2, |_| DType::Bf16);
    let files: Vec<_> = names(made.path())
        .into_iter()
        .map(|name| (name.clone(), fs::read(made.path().join(name)).unwrap()))
        .collect();
    let place = Place::with(files.clone(), Vec::new());
    let folder = place.fetch().unwrap();
    assert_eq!(place.visible().len(), 4);
    assert!(Checkpoint::open(&folder).is_ok());

    let without = files.into_iter().filter(|(name, _)| name != "model-00002-of-00002.safetensors").collect();
    let error = Place::with(without, Vec::new()).error();
    assert!(
        error.contains("model.safetensors.index.json: it names model-00002-of-00002.safetensors"),
        "{error}"
    );
}

#[test]
fn a_model_that_cannot_be_used_is_refused_before_its_weights_come() {
    let text = |text: &str| text.as_bytes().to_vec();
    let config = |kind: &str| {
        let path = fixtures().join("variants/mt5/config.json");
        text(&fs::read_to_string(path).unwrap().replace("\"mt5\"", kind))
    };
    let file = |name: &str, bytes: Vec<u8>| (name.to_owned(), bytes);
    for (files, says) in [
        (vec![], "there is no config.json"),
        (
            vec![file("config.json", config("\"longt5\"")), file("model.safetensors", text("large"))],
            "model_type = \"longt5\" is not supported",
        ),
        (
            vec![file("config.json", config("\"mt5\"")), file("pytorch_model.bin", text("large"))],
            "there are no safetensors, and other weights are not read",
        ),
        (
            vec![
                file("config.json", config("\"mt5\"")),
                file("model.safetensors", text("large")),
                file("spiece.model", text("pieces")),
            ],
            "there is no tokenizer.json, and spiece.model is not read",
        ),
    ] {
        let place = Place::with(files, Vec::new());
        let error = place.error();
        assert!(error.contains(says), "{error}");
        if says.starts_with("there are no") || says.contains("spiece") {
            assert!(
                error.contains("n, r, d = 'xprompt/t5-nano', 'main', 't5-nano'"),
                "{error} has the command"
            );
        }
        assert!(
            !place
                .server
                .requests()
                .iter()
                .any(|request| request.contains("GET") && request.contains("large"))
        );
        assert!(!place.visible().contains(&"model.safetensors".to_owned()));
    }
}

#[test]
fn names_and_folders_are_told_apart() {
    let place = Place::new(Vec::new());
    let folder = |name: &str| model_folder(Path::new(name), &place.hub(), &mut |_| {});
    assert_eq!(folder("models/t5-nano").unwrap(), Path::new("models/t5-nano"));
    let fetched = place.repository().join("snapshots").join(COMMIT);
    assert_eq!(folder("hf:xprompt/t5-nano").unwrap(), fetched);
    assert_eq!(folder("hf:xprompt/t5-nano@refs/pr/1").unwrap(), fetched);
    assert_eq!(fs::read_to_string(place.repository().join("refs/refs/pr/1")).unwrap(), COMMIT);
    assert!(folder("hf:../t5-nano").unwrap_err().to_string().contains("names no model"));
}

#[test]
fn a_server_serves_a_model_of_the_hub_and_starts_again_without_it() {
    let mut place = Place::new(Vec::new());
    let prompts = tempfile::tempdir().unwrap();
    let start = |more: &[(&str, &str)]| {
        let mut server = command(prompts.path());
        server.args(["--model", "hf:xprompt/t5-nano"]).env("HF_ENDPOINT", place.server.address());
        server.env("HF_HUB_CACHE", place.cache.path()).env_remove("HF_TOKEN").env_remove("HF_HUB_OFFLINE");
        server.envs(more.iter().copied());
        server
    };
    let (first, offline, other) =
        (start(&[]), start(&[("HF_HUB_OFFLINE", "1")]), start(&[("HF_HUB_CACHE", "/dev/null")]));
    drop(Process::start(first));
    place.server.stop();
    drop(Process::start(offline));
    let mut other = other;
    let output = other.env("HF_HUB_OFFLINE", "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && said.contains("xprompt/t5-nano@main is not whole in the cache"),
        "{said}"
    );
}
