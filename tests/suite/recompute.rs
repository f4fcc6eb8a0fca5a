//! Gradients that compute activations again instead of keeping them.

use xprompt::graph::{Activations, Arithmetic, DType, Kernels};
use xprompt::runtime::{Device, Input, Model};
use xprompt::t5::graphs::{self, Answers};

use crate::support::nano;
use crate::t5_reference::{Step, chain, each_variant};

/// Every model and every arithmetic; the numbers are the same to the last bit.
#[test]
fn gradients_are_the_same_whether_activations_are_kept_or_computed_again() {
    each_variant(|name, arithmetic, model, expected| {
        let step = Step::read(model, expected);
        for answers in [Answers::Vocabulary, Answers::Candidates] {
            let [(kept, nodes), (again, more)] =
                [Activations::Kept, Activations::Recomputed].map(|activations| {
                    let graph = graphs::tuning(model.checkpoint(), answers, arithmetic, activations);
                    let mut outputs = model.session(&graph, &[]).unwrap().run(&step.inputs()).unwrap();
                    let [loss, gradient] = [graphs::LOSS, graphs::PROMPT_GRADIENT]
                        .map(|output| outputs.take(output).unwrap().f32s().unwrap().to_vec());
                    ((loss, gradient), graph.node_count())
                });
            assert!(more > nodes, "{name} {answers:?} computes nothing again");
            assert!(kept.1.iter().any(|&x| x != 0.0), "{name} {answers:?}");
            assert_eq!(kept, again, "{name} {answers:?}");
        }
    });
}

/// Bytes that a step over texts of this length takes at most.
fn peak(model: &Model, arithmetic: Arithmetic, activations: Activations, length: usize) -> usize {
    let (rows, target) = (4, 2);
    let graph = graphs::tuning(model.checkpoint(), Answers::Candidates, arithmetic, activations);
    let mut session = model.session(&graph, &[]).unwrap();
    let ids: Vec<i64> = (0..rows * length).map(|i| 200 + (i * 13 % 90) as i64).collect();
    let (bias, mask) = (chain(model, rows, target), vec![1.0; rows * length]);
    let prompt = vec![0.5; model.config().d_model];
    let inputs = [
        (graphs::IDS, Input::i64([rows, length], &ids)),
        (graphs::MASK, Input::f32([rows, length], &mask)),
        (graphs::PROMPT_ROWS, Input::f32([1, prompt.len()], &prompt)),
        (graphs::DECODER_IDS, Input::i64([rows, target], &[0, 300, 0, 300, 0, 300, 0, 300])),
        (graphs::BIAS_INDEX, Input::i64([rows, target, target], &bias)),
        (graphs::CANDIDATES, Input::i64([2], &[300, 400])),
        (graphs::TARGETS, Input::i64([rows, target], &[0, 1, 0, 1, 1, 0, -1, 0])),
        (graphs::COMPETES, Input::f32([rows, target, 2], &[0.0; 16])),
        (graphs::PROMPT_POSITIONS, Input::i64([1], &[0])),
    ];
    session.run(&inputs).unwrap();
    session.peak_bytes().unwrap().expect("the library counts what its arena gives out")
}

#[test]
fn computing_activations_again_takes_less_than_half_of_the_memory() {
    // attention's kernels for a GPU take no f32
    let model = nano().on(Device::Cpu);
    for kernels in [Kernels::Standard, Kernels::Fused, Kernels::FusedAttention] {
        let arithmetic = Arithmetic { kernels, floats: DType::F32 };
        let [kept, again] = [Activations::Kept, Activations::Recomputed]
            .map(|activations| peak(&model, arithmetic, activations, 192));
        eprintln!("{kernels:?}: {kept} bytes, {again} if computed again");
        assert!(again < kept / 2, "{kernels:?}: {kept} and {again}");
    }
}
