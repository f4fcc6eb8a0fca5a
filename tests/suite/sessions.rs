use xprompt::engine::{Generator, Scorer, Source};
use xprompt::graph::{Arithmetic, DType, Dim, Graph, Kernels};
use xprompt::runtime::{Device, Input, Model};
use xprompt::t5::graphs;
use xprompt::task::LabelTrie;

use crate::support::nano;

/// As a decoder step has it: `present` is what was kept so far with a position more.
fn growing(floats: DType) -> Graph {
    let mut g = Graph::new(Arithmetic::STANDARD);
    let past = g.input("past", floats, &["batch".into(), Dim::Named("past"), 2.into()]);
    let x = g.input("x", DType::F32, &["batch".into(), Dim::Named("target"), 2.into()]);
    let x = g.cast(x, floats);
    let present = g.concat(&[past, x], 1);
    let seen = g.cast(present, DType::F32);
    g.output("present", present);
    g.output("seen", seen);
    g
}

#[test]
fn a_cache_begins_empty_in_whatever_format_the_graph_keeps_it() {
    for floats in [DType::F32, DType::Bf16, DType::F16] {
        let mut session = nano().session(&growing(floats), &[]).unwrap();
        let empty = Input::Empty(vec![1, 0, 2]);
        let x = [1.0, -2.0];
        let run = session.run(&[("past", empty.clone()), ("x", Input::f32([1, 1, 2], &x))]);
        assert_eq!(run.unwrap().take("seen").unwrap().f32s().unwrap(), x, "{floats:?}");
        let inputs = [("past", empty), ("x", Input::f32([1, 1, 2], &x))];
        let mut first = session.run_keeping(&inputs, |name| name == "present").unwrap();
        assert_eq!(first.take("seen").unwrap().f32s().unwrap(), x, "{floats:?}");
        let present = first.take("present").unwrap();
        let inputs = [("past", Input::Kept(&present)), ("x", Input::f32([1, 1, 2], &[0.5, 4.0]))];
        let mut second = session.run_keeping(&inputs, |name| name == "present").unwrap();
        assert_eq!(second.take("seen").unwrap().f32s().unwrap(), [1.0, -2.0, 0.5, 4.0], "{floats:?}");
    }
}

/// Label scores and a text by a model's own sessions.
fn answers(model: &Model) -> (Vec<Vec<f32>>, Vec<u32>) {
    let labels = [("a".into(), vec![300, 400]), ("b".into(), vec![300, 401]), ("c".into(), vec![500])];
    let trie = LabelTrie::new(&labels, 0, 1).unwrap();
    let prompt: Vec<f32> = (0..3 * model.config().d_model).map(|i| (i % 7) as f32 - 3.0).collect();
    let text: Vec<u32> = (0..40).map(|i| 200 + i * 13 % 90).collect();
    let sources = [Source { prompt: &prompt, text: &text }, Source { prompt: &[], text: &text[..9] }];
    let scores = Scorer::new(model).unwrap().score(&sources.map(|source| (source, &trie))).unwrap();
    let texts = Generator::new(model).unwrap().generate(&sources, &[6, 6]).unwrap();
    (scores, texts.into_iter().flat_map(|text| text.tokens).collect())
}

/// The weights lie in host memory here, as on a GPU in its own.
#[test]
fn sessions_that_share_one_copy_of_the_weights_compute_what_others_do() {
    let alone = answers(&nano().sharing_weights(false));
    let model = nano().sharing_weights(true);
    assert_eq!(answers(&model), alone);
    let again = answers(&model.clone());
    drop(model);
    assert_eq!(again, alone);
}

#[test]
fn shared_weights_outlive_the_model_that_brought_them() {
    let folder = crate::support::root().join("models/t5-nano");
    let model = crate::support::model(&folder).sharing_weights(true);
    let text = [200, 201, 1];
    let source = Source { prompt: &[], text: &text };
    let trie = LabelTrie::new(&[("a".into(), vec![300]), ("b".into(), vec![301])], 0, 1).unwrap();
    let mut scorer = Scorer::new(&model).unwrap();
    let before = scorer.score(&[(source, &trie)]).unwrap();
    drop(model);
    assert_eq!(scorer.score(&[(source, &trie)]).unwrap(), before);
}

/// What is one product on a GPU reads its weights as one.
#[test]
fn weights_that_a_graph_joins_lie_behind_each_other_where_they_are_shared() {
    let arithmetic = Arithmetic { kernels: Kernels::FusedAttention, floats: DType::F32 };
    let [alone, shared] = [false, true].map(|shares| {
        // attention's kernels for a GPU take no f32
        let model = nano().on(Device::Cpu).sharing_weights(shares);
        let graph = graphs::encoder(model.checkpoint(), arithmetic);
        let joined = graph.weights().filter(|weight| weight.parts.len() > 1).count();
        assert_eq!(joined, 2 * model.config().num_layers, "attention and feed-forward of each layer");
        let (d, rows) = (model.config().d_model, vec![0.0; model.config().d_model]);
        let inputs = [
            (graphs::IDS, Input::i64([1, 3], &[200, 201, 1])),
            (graphs::MASK, Input::f32([1, 3], &[1.0; 3])),
            (graphs::PROMPT_ROWS, Input::f32([1, d], &rows)),
        ];
        let mut session = model.session(&graph, &[]).unwrap();
        session.run(&inputs).unwrap().take(graphs::ENCODER_HIDDEN).unwrap().f32s().unwrap().to_vec()
    });
    assert_eq!(alone, shared);
}
