use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;
use xprompt::engine::{Answers, Generator, ReadyTask, Scorer, Source};
use xprompt::exchange::{
    ADAPTER_CONFIG, ADAPTER_WEIGHTS, ExchangeError, Exported, Foreign, Settings, to_peft,
};
use xprompt::graph::Arithmetic;
use xprompt::prompt::{PromptFile, TaskSpec};
use xprompt::runtime::Input;
use xprompt::t5::graphs;

use crate::prompts::{lab, labels, tweets};
use crate::support::{Tensors, fixtures, model, nano, relative};
use crate::t5_reference::chain;

/// Adapters for the bundled model.
pub const ADAPTERS: [&str; 2] = ["nano", "nano-p-tuning"];

/// What PEFT answers with them.
pub fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join("peft/expected.json")).unwrap()).unwrap()
}

/// The probabilities of the words that PEFT's logits give.
pub fn probabilities(logits: &Value) -> Vec<f64> {
    let powers = logits.as_array().unwrap().iter().map(|logit| logit.as_f64().unwrap().exp());
    let total: f64 = powers.clone().sum();
    powers.map(|power| power / total).collect()
}

fn of_adapter(name: &str, file: &str) -> Vec<u8> {
    std::fs::read(fixtures().join("peft").join(name).join(file)).unwrap()
}

fn read(name: &str) -> Result<Foreign, ExchangeError> {
    Foreign::from_peft(&of_adapter(name, ADAPTER_CONFIG), &of_adapter(name, ADAPTER_WEIGHTS))
}

/// The task that the expected answers are of.
pub fn task(expected: &Value) -> TaskSpec {
    let words: Vec<(&str, &str)> = expected["words"]
        .as_array()
        .unwrap()
        .iter()
        .map(|word| (word.as_str().unwrap(), word.as_str().unwrap()))
        .collect();
    let template = expected["template"].as_str().unwrap().to_owned();
    Settings::new(Some(template), labels(&words), None).task
}

fn file(name: &str) -> PromptFile {
    read(name).unwrap().into_file(task(&expected()), &lab().base, "a test".into())
}

/// `num_transformer_submodules` is 2 there: six rows, of which the first three are the prompt.
#[test]
fn all_logits_of_an_adapter_are_pefts() {
    let expected = Tensors::read(&fixtures().join("peft/tiny.safetensors"));
    let prompt = read("tiny").unwrap();
    assert_eq!((prompt.tokens(), prompt.width), (3, 32));
    let model = model(&fixtures().join("models/t5-v1.0"));
    let vocabulary = model.config().vocab_size;
    let (texts, lengths) = (expected.i64s("texts"), expected.i64s("text_lengths"));
    let decoder = expected.i64s("decoder_ids");
    let (rows, width) = (lengths.len(), expected.shape("texts")[1]);
    let (length, target) = (3 + width, decoder.len() / rows);
    let ids = texts.chunks(width).flat_map(|text| {
        let first = vocabulary as i64;
        [first, first + 1, first + 2].into_iter().chain(text.iter().copied())
    });
    let ids: Vec<i64> = ids.collect();
    let mask =
        lengths.iter().flat_map(|&n| (0..length).map(move |i| if i < 3 + n as usize { 1.0 } else { 0.0 }));
    let mask: Vec<f32> = mask.collect();
    let bias = chain(&model, rows, target);
    let all: Vec<i64> = (0..vocabulary as i64).collect();
    let mut session = model.session(&graphs::scoring(model.checkpoint(), Arithmetic::STANDARD), &[]).unwrap();
    let inputs = [
        (graphs::IDS, Input::i64([rows, length], &ids)),
        (graphs::MASK, Input::f32([rows, length], &mask)),
        (graphs::PROMPT_ROWS, Input::f32([3, 32], &prompt.rows)),
        (graphs::DECODER_IDS, Input::i64([rows, target], &decoder)),
        (graphs::BIAS_INDEX, Input::i64([rows, target, target], &bias)),
        (graphs::CANDIDATES, Input::i64([vocabulary], &all)),
    ];
    let logits = session.run(&inputs).unwrap().take(graphs::LOGITS).unwrap();
    let apart = relative(logits.f32s().unwrap(), &expected.f32s("logits"));
    eprintln!("logits: {apart:.1e}");
    assert!(apart < 1e-4, "logits are {apart:.1e} away");
}

#[test]
fn label_probabilities_and_texts_of_adapters_are_pefts() {
    let (expected, model) = (expected(), nano());
    let tokenizer = &lab().tokenizer;
    let (mut scorer, mut generator) = (Scorer::new(&model).unwrap(), Generator::new(&model).unwrap());
    for name in ADAPTERS {
        let prompt = file(name);
        let ready = ReadyTask::new(prompt, "v".into(), tokenizer, model.config()).unwrap();
        let Answers::Labels { trie, .. } = ready.answers() else { panic!("labels") };
        for (i, text) in expected["texts"].as_array().unwrap().iter().enumerate() {
            let (ids, _) = ready.encode(text, tokenizer, false).unwrap();
            let source = Source { prompt: ready.rows(), text: &ids };
            let got = scorer.score(&[(source, trie)]).unwrap().remove(0);
            for (&got, want) in got.iter().zip(probabilities(&expected[name]["logits"][i])) {
                assert!((f64::from(got) - want).abs() < 1e-4, "{name}, {text}: {got} and {want}");
            }
            let want =
                expected[name]["tokens"][i].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32);
            let want: Vec<u32> = want.take_while(|&id| id != model.config().eos_token_id).collect();
            let got = generator.generate(&[source], &[6]).unwrap().remove(0).tokens;
            assert_eq!(got, want, "{name}, {text}");
        }
    }
}

#[test]
fn a_method_that_is_no_prompt_at_the_encoder_is_refused_by_its_name() {
    for (name, words) in [
        ("nano-multitask", "MULTITASK_PROMPT_TUNING, which cannot be served: its rows are multiplied"),
        ("nano-prefix", "PREFIX_TUNING, which cannot be served: it gives keys and values"),
        ("nano-lora", "LORA, which cannot be served: it changes the model's weights"),
    ] {
        let error = read(name).unwrap_err().to_string();
        assert!(error.starts_with("adapter_config.json: peft_type is ") && error.contains(words), "{error}");
    }
}

#[test]
fn an_adapter_that_is_still_in_training_is_read_too() {
    let config = of_adapter("fresh", ADAPTER_CONFIG);
    let fresh = Foreign::from_peft(&config, &of_adapter("nano", ADAPTER_WEIGHTS)).unwrap();
    assert_eq!(fresh.rows, read("nano").unwrap().rows);
    assert_eq!(fresh.claims.model, None);
    fresh.fits(&lab().base, lab().model.config(), None).unwrap();
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_refused() {
    let config = |key: &str, value: Value| {
        let mut config: Value = serde_json::from_slice(&of_adapter("nano", ADAPTER_CONFIG)).unwrap();
        config[key] = value;
        let weights = of_adapter("nano", ADAPTER_WEIGHTS);
        Foreign::from_peft(config.to_string().as_bytes(), &weights).unwrap_err().to_string()
    };
    let error = config("num_virtual_tokens", 6.into());
    assert!(error.contains("10 rows") && error.contains("num_virtual_tokens 6 times"), "{error}");
    assert!(config("num_transformer_submodules", 1.into()).contains("num_transformer_submodules 1"));
    let error = config("token_dim", 512.into());
    assert!(error.contains("token_dim is 512") && error.contains("256 values"), "{error}");
    let weights = |bytes: &[u8]| {
        Foreign::from_peft(&of_adapter("nano", ADAPTER_CONFIG), bytes).unwrap_err().to_string()
    };
    let error = weights(b"PK\x03\x04\0\0\x08\x08\0\0torch");
    assert!(error.contains("is a pickle") && error.contains("python -c"), "{error}");
    assert!(weights(b"").contains("not a whole safetensors file"));
    assert!(weights(&of_adapter("nano-lora", ADAPTER_WEIGHTS)).contains("does not belong to a prompt"));
    let mut infinite = of_adapter("nano", ADAPTER_WEIGHTS);
    let end = infinite.len() - 9 * 256 * 4;
    infinite[end - 4..end].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert!(weights(&infinite).contains("row 0, column 255 is inf"), "{}", weights(&infinite));
}

/// Of the same rows PEFT's file and ours are the same bytes, but for what PEFT keeps for a decoder and never uses.
#[test]
fn an_exported_prompt_is_what_peft_writes() {
    let Exported { config, weights, .. } = to_peft(&file("nano"), Some("models/t5-nano")).unwrap();
    let theirs = of_adapter("nano", ADAPTER_WEIGHTS);
    assert_eq!(weights.len(), theirs.len());
    let values = 5 * 256 * 4;
    let first = weights.len() - 2 * values;
    assert_eq!(weights[..first + values], theirs[..first + values], "header and the encoder's rows");
    assert_eq!(weights[first + values..], weights[first..first + values]);
    // what follows from the model PEFT fills in when it loads an adapter; how the prompt began to be trained is not known
    let differ = ["num_attention_heads", "num_layers", "peft_version", "prompt_tuning_init"];
    let theirs = String::from_utf8(of_adapter("nano", ADAPTER_CONFIG)).unwrap();
    let ours = String::from_utf8(config).unwrap();
    assert_eq!(ours.lines().count(), theirs.lines().count(), "{ours}");
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        let key = |line: &str| line.split('"').nth(1).unwrap_or_default().to_owned();
        assert_eq!(key(ours), key(theirs));
        assert!(ours == theirs || differ.contains(&key(ours).as_str()), "{ours} and {theirs}");
    }
}

#[test]
fn an_xprompt_comes_back_from_peft_with_its_mask() {
    let before = tweets();
    let Exported { config, weights, settings } = to_peft(&before, None).unwrap();
    let settings = Settings::parse(settings.as_bytes()).unwrap();
    let foreign = Foreign::from_peft(&config, &weights).unwrap();
    foreign.fits(&lab().base, lab().model.config(), settings.base_model.as_deref()).unwrap();
    let after = foreign.into_file(settings.task, &lab().base, "a test".into());
    assert_eq!(after.manifest.task, before.manifest.task);
    assert_eq!(after.prompt.rows(), before.prompt.rows());
    // pruned tokens are gone for good
    let kept = before.prompt.kept_tokens().flat_map(|token| {
        before.prompt.piece_mask()[token * before.prompt.pieces()..][..before.prompt.pieces()].to_vec()
    });
    assert_eq!(after.prompt.piece_mask(), kept.collect::<Vec<_>>());
    assert_eq!(
        PromptFile::from_bytes(&after.to_bytes().unwrap(), &xprompt::prompt::Limits::default()).unwrap(),
        after
    );
}

fn array(name: &str) -> Result<Foreign, String> {
    let bytes = std::fs::read(fixtures().join(format!("npy/{name}.npy"))).unwrap();
    Foreign::from_npy(&bytes, "prompt.npy").map_err(|error| error.to_string())
}

#[test]
fn arrays_of_every_type_order_and_version_are_read_alike() {
    let want: Vec<f32> = (0..12).map(|i| i as f32 / 4.0 - 1.0).collect();
    for name in [
        "bf16",
        "f16",
        "f16-big",
        "f32",
        "f32-big",
        "f32-fortran",
        "f32-version-2",
        "f32-version-3",
        "f64",
        "f64-big",
    ] {
        let got = array(name).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((got.tokens(), got.width, &got.rows), (3, 4, &want), "{name}");
    }
}

#[test]
fn an_array_that_is_no_prompt_says_how_to_save_one() {
    for (name, words) in [
        ("integers", "type \"<i8\""),
        ("flat", "shape [12]"),
        ("objects", "Python objects, which is a pickle"),
        ("records", "an array of records"),
    ] {
        let error = array(name).unwrap_err();
        assert!(error.starts_with("prompt.npy: ") && error.contains(words), "{name}: {error}");
        assert!(error.contains("numpy.save('prompt.npy', rows.astype('float32'))"), "{name}: {error}");
    }
    let whole = std::fs::read(fixtures().join("npy/f32.npy")).unwrap();
    let error = Foreign::from_npy(&whole[..whole.len() - 1], "prompt.npy").unwrap_err().to_string();
    assert!(error.contains("47 bytes that follow; the file is cut off"), "{error}");
    assert!(Foreign::from_npy(b"PK\x03\x04", "a.npz").unwrap_err().to_string().contains("an .npz"));
}

/// A file with a byte changed somewhere, and cut off somewhere in half of the cases.
fn damaged(mut bytes: Vec<u8>, at: Index, byte: u8, end: Option<Index>) -> Vec<u8> {
    // most of a prompt is numbers; what is interesting stands in front
    let place = at.index(bytes.len().min(400));
    bytes[place] = byte;
    if let Some(end) = end {
        bytes.truncate(end.index(bytes.len()));
    }
    bytes
}

proptest! {
    #[test]
    fn damaged_files_are_read_or_refused(at: Index, byte: u8, end in prop::option::of(any::<Index>())) {
        let whole = |file| of_adapter("nano", file);
        let damage = |bytes| damaged(bytes, at, byte, end);
        drop(Foreign::from_peft(&damage(whole(ADAPTER_CONFIG)), &whole(ADAPTER_WEIGHTS)));
        if let Ok(foreign) = Foreign::from_peft(&whole(ADAPTER_CONFIG), &damage(whole(ADAPTER_WEIGHTS))) {
            prop_assert_eq!((foreign.tokens(), foreign.width), (5, 256));
        }
        let files = ["f32", "f16-big", "f32-fortran", "f32-version-3", "objects"];
        for name in files {
            let bytes = damage(std::fs::read(fixtures().join(format!("npy/{name}.npy"))).unwrap());
            if let Ok(foreign) = Foreign::from_npy(&bytes, "x") {
                prop_assert_eq!(foreign.rows.len(), foreign.tokens() * foreign.width);
            }
        }
        let settings = to_peft(&tweets(), None).unwrap().settings;
        drop(Settings::parse(&damage(settings.into_bytes())));
    }
}
