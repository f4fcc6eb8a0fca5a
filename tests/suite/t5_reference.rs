use xprompt::graph::{Arithmetic, DType, Kernels};
use xprompt::runtime::{Device, Input, Model, Precision};
use xprompt::t5::graphs::{self, Answers};
use xprompt::t5::{Buckets, Direction};

use crate::support::{Tensors, VARIANTS, fixtures, model, relative};

/// The promise of the README: hidden states, logits and gradients within 1e-4, relative.
const TOLERANCE: f64 = 1e-4;
/// What bf16's eight bits of mantissa leave of it in models as small as these.
const BF16_TOLERANCE: f64 = 0.25;

pub(crate) const D: usize = 32;
pub(crate) const VOCABULARY: usize = 96;

/// The reference examples as one padded batch of mixed lengths.
pub(crate) struct Batch {
    pub(crate) rows: usize,
    pub(crate) length: usize,
    pub(crate) lengths: Vec<usize>,
    ids: Vec<i64>,
    pub(crate) mask: Vec<f32>,
    packed_ids: Vec<i64>,
    starts: Vec<i64>,
    prompt_lengths: Vec<usize>,
    prompts: Vec<f32>,
}

impl Batch {
    pub(crate) fn read(expected: &Tensors) -> Self {
        let usizes = |name: &str| -> Vec<usize> {
            expected.i64s(name).into_iter().map(|x| usize::try_from(x).unwrap()).collect()
        };
        let (prompt_index, prompt_lengths) = (usizes("prompt_index"), usizes("prompt_lengths"));
        let (text, text_lengths) = (expected.i64s("text_ids"), usizes("text_lengths"));
        let rows = prompt_index.len();
        let width = text.len() / rows;
        let per_prompt = expected.shape("prompts")[1];
        let lengths: Vec<usize> = (0..rows).map(|i| prompt_lengths[i] + text_lengths[i]).collect();
        let length = *lengths.iter().max().unwrap();
        let mut ids = vec![0; rows * length];
        let mut mask = vec![0.0; rows * length];
        let (mut packed_ids, mut starts) = (Vec::new(), vec![0]);
        for i in 0..rows {
            let row = &mut ids[i * length..];
            let first = VOCABULARY + prompt_index[i] * per_prompt;
            row[..prompt_lengths[i]].iter_mut().zip(first..).for_each(|(id, row)| *id = row as i64);
            let at = prompt_lengths[i];
            row[at..at + text_lengths[i]].copy_from_slice(&text[i * width..i * width + text_lengths[i]]);
            packed_ids.extend_from_slice(&row[..lengths[i]]);
            starts.push(packed_ids.len() as i64);
            mask[i * length..i * length + lengths[i]].fill(1.0);
        }
        let prompts = expected.f32s("prompts");
        Self { rows, length, lengths, ids, mask, packed_ids, starts, prompt_lengths, prompts }
    }

    pub(crate) fn inputs<'a>(&'a self, shapes: &'a Shapes) -> Vec<(&'static str, Input<'a>)> {
        vec![
            (graphs::IDS, Input::i64(shapes.source, &self.ids)),
            (graphs::MASK, Input::f32(shapes.source, &self.mask)),
            (graphs::PROMPT_ROWS, Input::f32(shapes.prompts, &self.prompts)),
            (graphs::PACKED_IDS, Input::i64([self.packed_ids.len()], &self.packed_ids)),
            (graphs::STARTS, Input::i64([self.starts.len()], &self.starts)),
        ]
    }

    /// 0, 1, ... up to the rows of the longest prompt.
    fn prompt_positions(&self) -> Vec<i64> {
        (0..*self.prompt_lengths.iter().max().unwrap() as i64).collect()
    }

    pub(crate) fn shapes(&self) -> Shapes {
        Shapes { source: [self.rows, self.length], prompts: [self.prompts.len() / D, D] }
    }
}

pub(crate) struct Shapes {
    source: [usize; 2],
    prompts: [usize; 2],
}

/// Bucket indices of a chain of `target` decoder positions, each of which sees those before it.
pub(crate) fn chain(model: &Model, rows: usize, target: usize) -> Vec<i64> {
    let buckets = Buckets::new(model.config());
    let one = (0..target).flat_map(|query| {
        (0..target).map(move |key| {
            if key > query {
                buckets.count() as i64
            } else {
                buckets.of(key as i64 - query as i64, Direction::Backward) as i64
            }
        })
    });
    let one: Vec<i64> = one.collect();
    one.repeat(rows)
}

/// Every model, with graphs of standard and of fused operators; on a GPU also in bf16.
pub(crate) fn each_variant(check: impl Fn(&str, Arithmetic, &Model, &Tensors)) {
    for name in VARIANTS {
        let expected = Tensors::read(&fixtures().join(format!("expected/{name}.safetensors")));
        let model = model(&fixtures().join("models").join(name));
        let mut graphs = vec![(Kernels::Standard, DType::F32), (Kernels::Fused, DType::F32)];
        match model.device() {
            Device::Cpu => {
                graphs
                    .extend([Kernels::FusedAttention, Kernels::Packed].map(|kernels| (kernels, DType::F32)));
            }
            Device::Cuda(_) => {
                // attention's kernels for a GPU take bf16 only, and heads of some widths
                let usual = model.clone().in_precision(Precision::Bf16).arithmetic();
                graphs.extend([(Kernels::Fused, DType::Bf16), (usual.kernels, usual.floats)]);
            }
        }
        for (kernels, floats) in graphs {
            let model = match floats {
                DType::Bf16 => model.clone().in_precision(Precision::Bf16),
                _ => model.clone(),
            };
            check(
                &format!("{name} {kernels:?} {floats:?}"),
                Arithmetic { kernels, floats },
                &model,
                &expected,
            );
        }
    }
}

pub(crate) fn assert_close(what: &str, floats: DType, got: &[f32], want: &[f32]) {
    let apart = relative(got, want);
    eprintln!("{what}: {apart:.1e}");
    let tolerance = if floats == DType::Bf16 { BF16_TOLERANCE } else { TOLERANCE };
    assert!(apart < tolerance, "{what} is {apart:.1e} away");
}

#[test]
fn encoder_states_agree_with_transformers() {
    each_variant(|name, arithmetic, model, expected| {
        if arithmetic.floats == DType::Bf16 {
            // its output is bf16, for a decoder
            return;
        }
        let batch = Batch::read(expected);
        let mut session = model.session(&graphs::encoder(model.checkpoint(), arithmetic), &[]).unwrap();
        let hidden =
            session.run(&batch.inputs(&batch.shapes())).unwrap().take(graphs::ENCODER_HIDDEN).unwrap();
        let (got, want) = (hidden.f32s().unwrap(), expected.f32s("encoder_hidden"));
        let width = want.len() / batch.rows;
        for (i, &length) in batch.lengths.iter().enumerate() {
            let got = &got[i * batch.length * D..][..length * D];
            assert_close(
                &format!("{name} hidden {i}"),
                arithmetic.floats,
                got,
                &want[i * width..][..length * D],
            );
        }
    });
}

/// Logits of all candidates, losses and per-example prompt gradients of one tuning step over the vocabulary
/// and one over named candidates.
#[test]
fn logits_losses_and_prompt_gradients_agree_with_autograd() {
    each_variant(|name, arithmetic, model, expected| {
        let batch = Batch::read(expected);
        let shapes = batch.shapes();
        let decoder_ids = expected.i64s("decoder_ids");
        let target = decoder_ids.len() / batch.rows;
        let bias = chain(model, batch.rows, target);
        let all: Vec<i64> = (0..VOCABULARY as i64).collect();
        let targets: Vec<i64> = expected.i64s("targets").into_iter().map(|t| t.max(-1)).collect();
        let competes = vec![0.0; batch.rows * target * VOCABULARY];
        let positions = batch.prompt_positions();
        let mut inputs = batch.inputs(&shapes);
        inputs.extend([
            (graphs::DECODER_IDS, Input::i64([batch.rows, target], &decoder_ids)),
            (graphs::BIAS_INDEX, Input::i64([batch.rows, target, target], &bias)),
            (graphs::CANDIDATES, Input::i64([VOCABULARY], &all)),
            (graphs::TARGETS, Input::i64([batch.rows, target], &targets)),
            (graphs::COMPETES, Input::f32([batch.rows, target, VOCABULARY], &competes)),
            (graphs::PROMPT_POSITIONS, Input::i64([positions.len()], &positions)),
        ]);

        let mut session = model.session(&graphs::scoring(model.checkpoint(), arithmetic), &[]).unwrap();
        let logits = session.run(&inputs).unwrap().take(graphs::LOGITS).unwrap();
        let (got, want) = (logits.f32s().unwrap(), expected.f32s("logits"));
        for (i, length) in expected.i64s("decoder_lengths").into_iter().enumerate() {
            let range = i * target * VOCABULARY..(i * target + length as usize) * VOCABULARY;
            assert_close(&format!("{name} logits {i}"), arithmetic.floats, &got[range.clone()], &want[range]);
        }

        let longest_prompt = positions.len();
        let fixed = [("batch", batch.rows), ("length", batch.length), ("target", target)];
        for (answers, sizes) in [(Answers::Vocabulary, &[][..]), (Answers::Candidates, &fixed[..])] {
            let mut session =
                model.session(&graphs::tuning(model.checkpoint(), answers, arithmetic), sizes).unwrap();
            let mut outputs = session.run(&inputs).unwrap();
            let loss = outputs.take(graphs::LOSS).unwrap();
            assert_close(
                &format!("{name} {answers:?} loss"),
                arithmetic.floats,
                loss.f32s().unwrap(),
                &expected.f32s("loss"),
            );
            let gradient = outputs.take(graphs::PROMPT_GRADIENT).unwrap();
            let (got, want) = (gradient.f32s().unwrap(), expected.f32s("prompt_grad"));
            let width = want.len() / batch.rows;
            for (i, &length) in batch.prompt_lengths.iter().enumerate() {
                let got = &got[i * longest_prompt * D..(i + 1) * longest_prompt * D];
                let (own, rest) = got.split_at(length * D);
                assert_close(
                    &format!("{name} gradient {i}"),
                    arithmetic.floats,
                    own,
                    &want[i * width..][..length * D],
                );
                assert!(rest.iter().all(|&x| x == 0.0), "positions behind a shorter prompt have no gradient");
            }
        }
    });
}

#[test]
fn prompt_gradients_agree_with_central_differences() {
    let name = "t5-v1.1";
    let expected = Tensors::read(&fixtures().join(format!("expected/{name}.safetensors")));
    let model = model(&fixtures().join("models").join(name));
    let batch = Batch::read(&expected);
    let shapes = batch.shapes();
    let decoder_ids = expected.i64s("decoder_ids");
    let target = decoder_ids.len() / batch.rows;
    let bias = chain(&model, batch.rows, target);
    let targets: Vec<i64> = expected.i64s("targets").into_iter().map(|t| t.max(-1)).collect();
    let mut session = model
        .session(&graphs::tuning(model.checkpoint(), Answers::Vocabulary, Arithmetic::STANDARD), &[])
        .unwrap();
    let positions = batch.prompt_positions();
    let mut run = |prompts: &[f32]| {
        let mut inputs = batch.inputs(&shapes);
        inputs[2].1 = Input::f32(shapes.prompts, prompts);
        inputs.extend([
            (graphs::DECODER_IDS, Input::i64([batch.rows, target], &decoder_ids)),
            (graphs::BIAS_INDEX, Input::i64([batch.rows, target, target], &bias)),
            (graphs::TARGETS, Input::i64([batch.rows, target], &targets)),
            (graphs::PROMPT_POSITIONS, Input::i64([positions.len()], &positions)),
        ]);
        let mut outputs = session.run(&inputs).unwrap();
        let gradient = outputs.take(graphs::PROMPT_GRADIENT).unwrap().f32s().unwrap().to_vec();
        (outputs.take(graphs::LOSS).unwrap().f32s().unwrap().to_vec(), gradient)
    };
    let (_, gradient) = run(&batch.prompts);
    // example 0 uses the first prompt from its first row on
    for entry in [0, 17, D + 3, 4 * D + 31] {
        let step = 1e-2;
        let mut moved = batch.prompts.clone();
        moved[entry] += step;
        let above = f64::from(run(&moved).0[0]);
        moved[entry] -= 2.0 * step;
        let below = f64::from(run(&moved).0[0]);
        let slope = (above - below) / f64::from(2.0 * step);
        let got = f64::from(gradient[entry]);
        assert!((slope - got).abs() < 2e-3 * (1.0 + slope.abs()), "entry {entry}: {got} against {slope}");
    }
}

#[test]
fn runs_that_are_replayed_give_what_plain_runs_give() {
    let name = "t5-v1.1";
    let expected = Tensors::read(&fixtures().join(format!("expected/{name}.safetensors")));
    let model = model(&fixtures().join("models").join(name));
    let batch = Batch::read(&expected);
    let shapes = batch.shapes();
    let decoder_ids = expected.i64s("decoder_ids");
    let target = decoder_ids.len() / batch.rows;
    let bias = chain(&model, batch.rows, target);
    let targets: Vec<i64> = expected.i64s("targets").into_iter().map(|t| t.max(-1)).collect();
    let positions = batch.prompt_positions();
    let graph = graphs::tuning(model.checkpoint(), Answers::Vocabulary, model.arithmetic());
    let mut plain = model.session(&graph, &[]).unwrap();
    let mut replayed = model.replayed_session(&graph).unwrap();
    // two batches in turn, each on shapes of its own
    for round in 0..8 {
        let rows = batch.rows - round % 2;
        let prompts: Vec<f32> = batch.prompts.iter().map(|x| x + 0.01 * round as f32).collect();
        let source = [rows, shapes.source[1]];
        let inputs = [
            (graphs::IDS, Input::i64(source, &batch.ids[..source[0] * source[1]])),
            (graphs::MASK, Input::f32(source, &batch.mask[..source[0] * source[1]])),
            (graphs::PROMPT_ROWS, Input::f32(shapes.prompts, &prompts)),
            (graphs::DECODER_IDS, Input::i64([rows, target], &decoder_ids[..rows * target])),
            (graphs::BIAS_INDEX, Input::i64([rows, target, target], &bias[..rows * target * target])),
            (graphs::TARGETS, Input::i64([rows, target], &targets[..rows * target])),
            (graphs::PROMPT_POSITIONS, Input::i64([positions.len()], &positions)),
        ];
        let [mut want, mut got] = [&mut plain, &mut replayed].map(|session| session.run(&inputs).unwrap());
        for output in [graphs::LOSS, graphs::PROMPT_GRADIENT] {
            let [want, got] = [&mut want, &mut got].map(|outputs| outputs.take(output).unwrap());
            assert_eq!(got.f32s().unwrap(), want.f32s().unwrap(), "round {round}: {output}");
        }
    }
}
