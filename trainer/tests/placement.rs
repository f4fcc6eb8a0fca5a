//! Where the nodes of tuning compute.
#![allow(clippy::unwrap_used)] // clippy exempts the functions marked as tests, not those they call

use std::path::Path;

use xprompt::engine::{Answers, Source};
use xprompt::prompt::{Label, OutputSpec};
use xprompt::runtime::{Device, Placed};
use xprompt_trainer::example::Target;
use xprompt_trainer::setup::{Options, Setup};
use xprompt_trainer::tuner::{Tuned, Tuner};

fn setup() -> Setup {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/t5-nano");
    Setup::load(&Options { model, threads: Some(2), device: "cpu".parse().unwrap(), ..Options::default() })
        .unwrap()
}

/// A step on labels and on text, and where every node of it ran.
fn nodes(setup: &Setup, device: Device) -> Vec<Placed> {
    let folder = tempfile::tempdir().unwrap();
    let model = [setup.model.clone().on(device).profiled(folder.path())];
    let labels = ["sport", "business"].map(|words| Label { name: words.into(), words: words.into() });
    let [labels, text] =
        [OutputSpec::Labels { labels: labels.into() }, OutputSpec::Text { max_new_tokens: 4 }]
            .map(|output| Answers::new(&output, &setup.tokenizer, setup.model.config()).unwrap());
    let prompt = vec![0.5; 20 * setup.model.config().d_model];
    // as long as real texts: positions are then more than a handful of numbers
    let tokens: Vec<u32> = (0..128).map(|i| 200 + i % 90).collect();
    let source = Source { prompt: &prompt, text: &tokens };
    let said = Target::Text { text: String::new(), tokens: vec![300, 301, 1] };
    let examples = [
        Tuned { source, target: &Target::Label(1), answers: &labels },
        Tuned { source, target: &said, answers: &text },
    ];
    Tuner::new(&model, setup.plan).contributions(&examples).unwrap();
    Placed::read(folder.path()).unwrap()
}

/// Runs where a GPU is: `ORT_DYLIB_PATH` names the library of onnxruntime-gpu.
#[test]
fn on_a_gpu_only_shape_arithmetic_is_left_to_the_processor() {
    let setup = setup();
    if let Err(error) = setup.model.runtime().check(Device::Cuda(0)) {
        eprintln!("not run, {error}");
        assert!(nodes(&setup, Device::Cpu).iter().all(Placed::is_on_cpu));
        return;
    }
    let nodes = nodes(&setup, Device::Cuda(0));
    assert!(nodes.iter().any(|node| node.provider == "CUDAExecutionProvider"));
    let left: Vec<String> = nodes
        .iter()
        .filter(|node| node.is_on_cpu() && !node.is_shape_arithmetic())
        .map(ToString::to_string)
        .collect();
    assert!(left.is_empty(), "on the processor:\n{}", left.join("\n"));
}
