use xprompt::graph::{Activations, Arithmetic, DType, Graph, Kernels};
use xprompt::runtime::{Device, Input, Model, Precision};
use xprompt::t5::graphs::{self, Answers};
use xprompt::t5::{Buckets, Direction};

use crate::support::{Tensors, fixtures, model, references, relative};
use crate::weights;

/// The promise of the README: hidden states, logits and gradients within 1e-4, relative.
const TOLERANCE: f64 = 1e-4;
/// What bf16's eight bits of mantissa leave of it in models as small as these, and f16's eleven. Attention as one kernel
/// takes the sum of each row's derivatives from rounded outputs; where the scores are as large as in T5 1.0 that costs a
/// gradient in f16 most of what f16 has more than bf16 (0.07 against 0.005 without it).
const BF16_TOLERANCE: f64 = 0.25;
const F16_TOLERANCE: f64 = 0.1;

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

    pub(crate) fn inputs<'a>(&'a self, shapes: &Shapes) -> Vec<(&'static str, Input<'a>)> {
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

/// What a tuning step reads: the reference examples with their targets.
pub(crate) struct Step {
    pub(crate) batch: Batch,
    pub(crate) target: usize,
    pub(crate) decoder_ids: Vec<i64>,
    bias: Vec<i64>,
    targets: Vec<i64>,
    candidates: Vec<i64>,
    competes: Vec<f32>,
    positions: Vec<i64>,
}

impl Step {
    pub(crate) fn read(model: &Model, expected: &Tensors) -> Self {
        let batch = Batch::read(expected);
        let decoder_ids = expected.i64s("decoder_ids");
        let target = decoder_ids.len() / batch.rows;
        Self {
            target,
            decoder_ids,
            bias: chain(model, batch.rows, target),
            targets: expected.i64s("targets").into_iter().map(|t| t.max(-1)).collect(),
            candidates: (0..VOCABULARY as i64).collect(),
            competes: vec![0.0; batch.rows * target * VOCABULARY],
            positions: batch.prompt_positions(),
            batch,
        }
    }

    /// Of the first examples only.
    fn first(mut self, rows: usize) -> Self {
        let (length, target) = (self.batch.length, self.target);
        self.batch.rows = rows;
        self.batch.ids.truncate(rows * length);
        self.batch.mask.truncate(rows * length);
        self.decoder_ids.truncate(rows * target);
        self.bias.truncate(rows * target * target);
        self.targets.truncate(rows * target);
        self.competes.truncate(rows * target * VOCABULARY);
        self
    }

    pub(crate) fn inputs(&self) -> Vec<(&'static str, Input<'_>)> {
        let (rows, target) = (self.batch.rows, self.target);
        let mut inputs = self.batch.inputs(&self.batch.shapes());
        inputs.extend([
            (graphs::DECODER_IDS, Input::i64([rows, target], &self.decoder_ids)),
            (graphs::BIAS_INDEX, Input::i64([rows, target, target], &self.bias)),
            (graphs::CANDIDATES, Input::i64([VOCABULARY], &self.candidates)),
            (graphs::TARGETS, Input::i64([rows, target], &self.targets)),
            (graphs::COMPETES, Input::f32([rows, target, VOCABULARY], &self.competes)),
            (graphs::PROMPT_POSITIONS, Input::i64([self.positions.len()], &self.positions)),
        ]);
        inputs
    }
}

/// Every model, with graphs of standard and of fused operators; on a GPU also in bf16 and f16.
pub(crate) fn each_variant(check: impl Fn(&str, Arithmetic, &Model, &Tensors)) {
    for (name, folder, expected) in references() {
        let model = model(&folder);
        let mut graphs = vec![(Kernels::Standard, DType::F32), (Kernels::Fused, DType::F32)];
        match model.device() {
            Device::Cpu => {
                graphs
                    .extend([Kernels::FusedAttention, Kernels::Packed].map(|kernels| (kernels, DType::F32)));
            }
            Device::Cuda(_) => {
                // attention's kernels for a GPU take 16 bits only, and heads of some widths
                for half in [Precision::Bf16, Precision::F16] {
                    let usual = model.clone().in_precision(half).arithmetic();
                    graphs.extend([(Kernels::Fused, usual.floats), (usual.kernels, usual.floats)]);
                }
            }
        }
        for (kernels, floats) in graphs {
            let model = match floats {
                DType::Bf16 => model.clone().in_precision(Precision::Bf16),
                DType::F16 => model.clone().in_precision(Precision::F16),
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

fn tuning(model: &Model, answers: Answers, arithmetic: Arithmetic) -> Graph {
    graphs::tuning(model.checkpoint(), answers, arithmetic, Activations::Kept)
}

pub(crate) fn assert_close(what: &str, floats: DType, got: &[f32], want: &[f32]) {
    let apart = relative(got, want);
    eprintln!("{what}: {apart:.1e}");
    let tolerance = match floats {
        DType::Bf16 => BF16_TOLERANCE,
        DType::F16 => F16_TOLERANCE,
        _ => TOLERANCE,
    };
    assert!(apart < tolerance, "{what} is {apart:.1e} away");
}

#[test]
fn encoder_states_agree_with_transformers() {
    each_variant(|name, arithmetic, model, expected| {
        if arithmetic.floats != DType::F32 {
            // its output has 16 bits, for a decoder
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
        let step = Step::read(model, expected);
        let (batch, target, inputs) = (&step.batch, step.target, step.inputs());

        let mut session = model.session(&graphs::scoring(model.checkpoint(), arithmetic), &[]).unwrap();
        let logits = session.run(&inputs).unwrap().take(graphs::LOGITS).unwrap();
        let (got, want) = (logits.f32s().unwrap(), expected.f32s("logits"));
        for (i, length) in expected.i64s("decoder_lengths").into_iter().enumerate() {
            let range = i * target * VOCABULARY..(i * target + length as usize) * VOCABULARY;
            assert_close(&format!("{name} logits {i}"), arithmetic.floats, &got[range.clone()], &want[range]);
        }

        let longest_prompt = step.positions.len();
        let fixed = [("batch", batch.rows), ("length", batch.length), ("target", target)];
        for (answers, sizes) in [(Answers::Vocabulary, &[][..]), (Answers::Candidates, &fixed[..])] {
            let mut session = model.session(&tuning(model, answers, arithmetic), sizes).unwrap();
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
fn integers_stay_close_to_what_transformers_computes_whatever_lies_between_them() {
    for name in weights::FAMILY {
        let expected = Tensors::read(&weights::expected(name));
        let model = model(&weights::family(name));
        if model.device() != Device::Cpu {
            // integers are for a processor
            return;
        }
        let model = model.in_precision(Precision::Int8);
        let batch = Batch::read(&expected);
        let mut session =
            model.session(&graphs::encoder(model.checkpoint(), model.arithmetic()), &[]).unwrap();
        let hidden =
            session.run(&batch.inputs(&batch.shapes())).unwrap().take(graphs::ENCODER_HIDDEN).unwrap();
        let (got, want) = (hidden.f32s().unwrap(), expected.f32s("encoder_hidden"));
        for (i, &length) in batch.lengths.iter().enumerate() {
            let at = i * batch.length * D..(i * batch.length + length) * D;
            let apart = relative(&got[at.clone()], &want[at]);
            assert!((1e-4..0.1).contains(&apart), "{name} hidden {i} is {apart:.1e} away");
        }
    }
}

#[test]
fn prompt_gradients_agree_with_central_differences() {
    let name = "t5-v1.1";
    let expected = Tensors::read(&fixtures().join(format!("expected/{name}.safetensors")));
    let model = model(&fixtures().join("models").join(name));
    let step = Step::read(&model, &expected);
    let (batch, shapes) = (&step.batch, step.batch.shapes());
    let mut session = model.session(&tuning(&model, Answers::Vocabulary, Arithmetic::STANDARD), &[]).unwrap();
    let mut run = |prompts: &[f32]| {
        let mut inputs = step.inputs();
        inputs[2].1 = Input::f32(shapes.prompts, prompts);
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
    let graph = tuning(&model, Answers::Vocabulary, model.arithmetic());
    let mut plain = model.session(&graph, &[]).unwrap();
    let mut replayed = model.replayed_session(&graph).unwrap();
    // two batches in turn, each on shapes of its own
    for round in 0..8 {
        let step = Step::read(&model, &expected);
        let rows = step.batch.rows - round % 2;
        let mut step = step.first(rows);
        step.batch.prompts.iter_mut().for_each(|x| *x += 0.01 * round as f32);
        let inputs = step.inputs();
        let [mut want, mut got] = [&mut plain, &mut replayed].map(|session| session.run(&inputs).unwrap());
        for output in [graphs::LOSS, graphs::PROMPT_GRADIENT] {
            let [want, got] = [&mut want, &mut got].map(|outputs| outputs.take(output).unwrap());
            assert_eq!(got.f32s().unwrap(), want.f32s().unwrap(), "round {round}: {output}");
        }
    }
}
