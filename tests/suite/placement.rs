use xprompt::engine::{Answers, Generator, ReadyTask, Scorer, Source};
use xprompt::runtime::{Device, Placed};

use crate::prompts::{free_text, lab, tweets};

/// Scores and generates on a device, and tells where every node of that ran.
fn nodes(device: Device) -> Vec<Placed> {
    let folder = tempfile::tempdir().unwrap();
    let model = lab().model.clone().on(device).profiled(folder.path());
    let ready = |file| ReadyTask::new(file, "1".into(), &lab().tokenizer, model.config()).unwrap();
    let (labels, text) = (ready(tweets()), ready(free_text()));
    let Answers::Labels { trie, .. } = labels.answers() else { panic!("the task has labels") };
    // as long as real texts: positions are then more than a handful of numbers
    let tokens: Vec<u32> = (0..140).map(|i| 200 + i % 90).collect();
    let source = Source { prompt: labels.rows(), text: &tokens };
    Scorer::new(&model).unwrap().score(&[(source, trie), (source, trie)]).unwrap();
    let source = Source { prompt: text.rows(), text: &tokens };
    Generator::new(&model).unwrap().generate(&[source, source], &[3, 3]).unwrap();
    Placed::read(folder.path()).unwrap()
}

#[test]
fn profiles_cover_scoring_and_generation() {
    let nodes = nodes(Device::Cpu);
    assert!(nodes.iter().all(Placed::is_on_cpu));
    assert!(!nodes.iter().any(Placed::is_copy));
    let count = |ops: &[&str]| nodes.iter().filter(|node| ops.contains(&node.op.as_str())).count();
    // ours where the processor has wide vectors
    let products = count(&["Gemm", "PackedProduct", "PackedGatedGelu"]);
    let attentions = count(&["Softmax", "PackedSelfAttention"]);
    assert!(
        products > 100 && attentions > 10,
        "three graphs: {products} products, {attentions} of attention"
    );
}

/// Runs where a GPU is: `ORT_DYLIB_PATH` names the library of onnxruntime-gpu.
#[test]
fn on_a_gpu_only_shape_arithmetic_is_left_to_the_processor() {
    if let Err(error) = lab().model.runtime().check(Device::Cuda(0)) {
        eprintln!("not run, {error}");
        return;
    }
    let nodes = nodes(Device::Cuda(0));
    assert!(nodes.iter().any(|node| node.provider == "CUDAExecutionProvider"));
    let left: Vec<String> = nodes
        .iter()
        .filter(|node| node.is_on_cpu() && !node.is_shape_arithmetic())
        .map(ToString::to_string)
        .collect();
    assert!(left.is_empty(), "on the processor:\n{}", left.join("\n"));
}
