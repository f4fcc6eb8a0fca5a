//! Products of 8-bit integers and of bf16: against PyTorch, and the files that weights of them are kept in.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use xprompt::engine::{Generator, Scorer, Source};
use xprompt::graph::Narrow;
use xprompt::runtime::{Device, Input, Model, Precision};
use xprompt::t5::{Checkpoint, Kept, NarrowWeights, graphs, step};
use xprompt::task::LabelTrie;

use crate::support::{Tensors, fixtures, model, relative};
use crate::t5_reference::{Batch, D, VOCABULARY, chain};

const MODELS: [&str; 3] = ["t5-v1.0", "t5-v1.1", "t5-v1.1-bf16"];
const WEIGHT: &str = "decoder.block.1.layer.2.DenseReluDense.wo.weight";

/// Both, as models compute in them.
pub(crate) const FORMATS: [(Precision, Narrow); 2] =
    [(Precision::Int8, Narrow::Int8), (Precision::Bf16, Narrow::Bf16)];

/// A float that is off by a rounding can be another integer, a step of 1/127 of the row's largest number, or another
/// number of bf16, a step of 1/256 of itself.
const TOLERANCE: f64 = 1e-2;
/// How near two in three results are, which have no such float.
const NEAR: f64 = 1e-5;
/// How far narrow numbers are from floats on these models: a promise that they are no worse.
const COST: [(Precision, f64); 2] = [(Precision::Int8, 0.15), (Precision::Bf16, 0.03)];

/// Whether this processor computes in it.
pub(crate) fn is_here(precision: Precision) -> bool {
    let is_here = precision.on(Device::Cpu).is_ok();
    if !is_here {
        eprintln!("this processor has no products of {precision}");
    }
    is_here
}

fn narrow(name: &str, precision: Precision) -> Model {
    of_copy(&fixtures().join("models").join(name), precision)
}

/// A model in a copy of its folder: the numbers are kept there.
pub(crate) fn of_copy(folder: &Path, precision: Precision) -> Model {
    static COPYING: Mutex<()> = Mutex::new(());
    let copying = COPYING.lock().unwrap();
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("narrow").join(folder.file_name().unwrap());
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let to = copy.join(entry.file_name());
        if entry.file_type().unwrap().is_file() {
            let unfinished = copy.join("unfinished");
            std::fs::copy(entry.path(), &unfinished).unwrap();
            std::fs::rename(unfinished, to).unwrap();
        }
    }
    drop(copying);
    model(&copy).on(Device::Cpu).in_precision(precision)
}

fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint::open(&fixtures().join("models").join(name)).unwrap()
}

fn expected(file: &str) -> Tensors {
    Tensors::read(&fixtures().join(format!("expected/{file}.safetensors")))
}

#[test]
fn integers_and_scales_are_those_of_the_reference() {
    for name in MODELS {
        let weights = NarrowWeights::open(&checkpoint(name), Narrow::Int8, &[]).unwrap();
        assert_eq!(*weights.kept(), Kept::InMemory);
        let reference = expected("int8");
        let (bytes, _, shape) = weights.tensor(&format!("{WEIGHT}.int8"));
        let &[inputs, outputs] = reference.shape(&format!("{name}.integers")) else { unreachable!() };
        assert_eq!(shape, [outputs.div_ceil(32), inputs.div_ceil(4), 32, 4]);
        let want = reference.i8s(&format!("{name}.integers"));
        let mut sums = vec![0.0; outputs];
        for (i, &byte) in bytes.iter().enumerate() {
            // panels of 32 outputs, of blocks of 4 inputs
            let (panel, block) = (i / shape[1..].iter().product::<usize>(), i / 128 % shape[1]);
            let (output, input) = (panel * 32 + i / 4 % 32, block * 4 + i % 4);
            let inside = output < outputs && input < inputs;
            let number = if inside { want[input * outputs + output] } else { 0 };
            assert_eq!(byte.cast_signed(), number, "{name}: input {input} of output {output}");
            if inside {
                sums[output] += f32::from(number);
            }
        }
        let (bytes, _, _) = weights.tensor(&format!("{WEIGHT}.int8.scale"));
        let got: Vec<f32> = bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
        let zeros = sums.iter().map(|sum| -128.0 * sum);
        let want: Vec<f32> = reference.f32s(&format!("{name}.scales")).into_iter().chain(zeros).collect();
        assert_eq!(got, want, "{name}");
    }
}

#[test]
fn graphs_agree_with_the_same_arithmetic_in_pytorch_and_come_close_to_floats() {
    for (precision, most) in COST.into_iter().filter(|&(precision, _)| is_here(precision)) {
        agree(precision, most);
    }
}

fn agree(precision: Precision, most: f64) {
    let reference = expected(&precision.to_string());
    for name in MODELS {
        let (model, floats) = (narrow(name, precision), expected(name));
        let (checkpoint, arithmetic) = (model.checkpoint(), model.arithmetic());
        let batch = Batch::read(&floats);
        let shapes = batch.shapes();
        let mut apart_by = Vec::new();
        let mut compare = |what: &str, got: &[f32], want: &[f32], exact: Option<&[f32]>| {
            let apart = relative(got, want);
            apart_by.push(apart);
            assert!(apart < TOLERANCE, "{precision} {name} {what}: {apart:.1e} from PyTorch");
            let cost = exact.map_or(0.0, |exact| relative(got, exact));
            assert!(cost < most, "{precision} {name} {what}: {cost:.1e} from floats");
            eprintln!("{precision} {name} {what}: {apart:.1e} from PyTorch, {cost:.1e} from floats");
        };

        let mut session = model.session(&graphs::encoder(checkpoint, arithmetic), &[]).unwrap();
        let hidden = session.run(&batch.inputs(&shapes)).unwrap().take(graphs::ENCODER_HIDDEN).unwrap();
        let want = reference.f32s(&format!("{name}.encoder_hidden"));
        let exact = floats.f32s("encoder_hidden");
        let width = want.len() / batch.rows;
        for (i, &length) in batch.lengths.iter().enumerate() {
            let got = &hidden.f32s().unwrap()[i * batch.length * D..][..length * D];
            let range = i * width..i * width + length * D;
            compare(&format!("hidden {i}"), got, &want[range.clone()], Some(&exact[range]));
        }

        let decoder_ids = floats.i64s("decoder_ids");
        let target = decoder_ids.len() / batch.rows;
        let bias = chain(&model, batch.rows, target);
        let all: Vec<i64> = (0..VOCABULARY as i64).collect();
        let mut inputs = batch.inputs(&shapes);
        inputs.extend([
            (graphs::DECODER_IDS, Input::i64([batch.rows, target], &decoder_ids)),
            (graphs::BIAS_INDEX, Input::i64([batch.rows, target, target], &bias)),
            (graphs::CANDIDATES, Input::i64([VOCABULARY], &all)),
        ]);
        let mut session = model.session(&graphs::scoring(checkpoint, arithmetic), &[]).unwrap();
        let logits = session.run(&inputs).unwrap().take(graphs::LOGITS).unwrap();
        let (want, exact) = (reference.f32s(&format!("{name}.logits")), floats.f32s("logits"));
        for (i, length) in floats.i64s("decoder_lengths").into_iter().enumerate() {
            let range = i * target * VOCABULARY..(i * target + length as usize) * VOCABULARY;
            let got = &logits.f32s().unwrap()[range.clone()];
            compare(&format!("logits {i}"), got, &want[range.clone()], Some(&exact[range]));
        }

        let c = model.config();
        let cache = model.state(&step::cache_shape(c, batch.rows)).unwrap();
        let (starts, blocks) = (vec![0; batch.rows], (0..batch.rows as i64).collect::<Vec<_>>());
        let inputs = [
            (graphs::ENCODER_HIDDEN, Input::Kept(&hidden)),
            (graphs::MASK, Input::f32([batch.rows, batch.length], &batch.mask)),
            (graphs::DECODER_IDS, Input::i64([batch.rows, 1], &starts)),
            (step::CACHE, Input::State(&cache)),
            (step::CACHE_TABLE, Input::i64([batch.rows, 1], &blocks)),
            (step::AGES, Input::i64([batch.rows], &starts)),
        ];
        let mut session = model.session(&step::decoder_step(checkpoint, arithmetic), &[]).unwrap();
        let logits = session.run(&inputs).unwrap().take(graphs::LOGITS).unwrap();
        compare("next", logits.f32s().unwrap(), &reference.f32s(&format!("{name}.next")), None);
        let near = apart_by.iter().filter(|&&apart| apart < NEAR).count();
        assert!(3 * near >= 2 * apart_by.len(), "{precision} {name}: {apart_by:?}");
    }
}

/// What an example gets alone, and among others of other lengths.
#[test]
fn batch_mates_change_an_answer_by_less_than_a_step_of_narrow_numbers() {
    for (precision, _) in FORMATS.into_iter().filter(|&(precision, _)| is_here(precision)) {
        score_alone_and_together(&narrow("t5-v1.1", precision));
    }
}

fn score_alone_and_together(model: &Model) {
    let mut scorer = Scorer::new(model).unwrap();
    let trie = LabelTrie::new(
        &[("a".into(), vec![17, 42]), ("b".into(), vec![23, 5]), ("c".into(), vec![70])],
        0,
        1,
    );
    let trie = trie.unwrap();
    let texts: Vec<Vec<u32>> =
        (3..19).map(|length| (0..length * 2).map(|i| 2 + (i * 31 + length) % 90).collect()).collect();
    let examples: Vec<(Source<'_>, &LabelTrie)> =
        texts.iter().map(|text| (Source { prompt: &[], text }, &trie)).collect();
    let together = scorer.score(&examples).unwrap();
    for (example, together) in examples.iter().zip(&together) {
        let alone = scorer.score(&[*example]).unwrap();
        for (alone, together) in alone[0].iter().zip(together) {
            assert!((alone - together).abs() < 0.01, "{alone} became {together}");
        }
    }
}

#[test]
fn a_generation_is_as_long_as_it_is_told_and_the_same_each_time() {
    for (precision, _) in FORMATS.into_iter().filter(|&(precision, _)| is_here(precision)) {
        let model = narrow("t5-v1.0", precision);
        let mut generator = Generator::new(&model).unwrap();
        let text: Vec<u32> = (2..12).collect();
        let sources = [Source { prompt: &[], text: &text }; 3];
        let first = generator.generate(&sources, &[5, 2, 7]).unwrap();
        assert_eq!(first[0].tokens[..2], first[1].tokens[..]);
        assert_eq!(first, generator.generate(&sources, &[5, 2, 7]).unwrap());
    }
}

// === the files ===

fn kept(name: &str, narrow: Narrow, files: &[PathBuf]) -> Kept {
    NarrowWeights::open(&checkpoint(name), narrow, files).unwrap().kept().clone()
}

fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn numbers_are_made_once_and_then_read() {
    for narrow in Narrow::ALL {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/weights.safetensors");
        let files = [path.clone()];
        assert_eq!(kept("t5-v1.1", narrow, &files), Kept::Written(path.clone()));
        let made = bytes(&path);
        safetensors::SafeTensors::deserialize(&made).unwrap();
        assert_eq!(kept("t5-v1.1", narrow, &files), Kept::Read(path.clone()));
        assert_eq!(bytes(&path), made);
        let beside: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(beside.len(), 1, "no unfinished file is left");
    }
}

#[test]
fn a_file_that_is_damaged_or_of_another_model_is_made_anew() {
    let kept = |name: &str, files: &[PathBuf]| kept(name, Narrow::Int8, files);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("int8.safetensors");
    let files = [path.clone()];
    kept("t5-v1.1", &files);
    let whole = bytes(&path);
    let changed = |at: usize| {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        damaged
    };
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for (what, damaged) in [
        ("empty", Vec::new()),
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("longer", [&whole[..], b"x"].concat()),
        ("another length of the header", changed(0)),
        ("another header", changed(header / 2)),
        ("another scale", changed(header + 3)),
        ("another integer", changed(whole.len() - 1)),
    ] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(kept("t5-v1.1", &files), Kept::Written(path.clone()), "{what}");
        assert_eq!(bytes(&path), whole, "{what}");
    }
    // other numbers of the same model
    assert_eq!(self::kept("t5-v1.1", Narrow::Bf16, &files), Kept::Written(path.clone()));
    // another model of the same shape
    assert_eq!(kept("t5-v1.1-sharded", &files), Kept::Written(path.clone()));
    assert_ne!(bytes(&path), whole);
    assert_eq!(kept("t5-v1.1", &files), Kept::Written(path));
}

#[test]
fn where_a_folder_cannot_be_written_the_next_one_is_taken_and_at_last_memory() {
    let kept = |name: &str, files: &[PathBuf]| kept(name, Narrow::Int8, files);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let refused = file.join("int8.safetensors");
    let allowed = folder.path().join("int8.safetensors");
    let files = [refused.clone(), allowed.clone()];
    assert_eq!(kept("t5-v1.1", &files), Kept::Written(allowed.clone()));
    assert_eq!(kept("t5-v1.1", &files), Kept::Read(allowed));
    assert_eq!(kept("t5-v1.1", &[refused]), Kept::InMemory);
}
