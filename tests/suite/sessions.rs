use xprompt::engine::{Generator, Scorer, Source};
use xprompt::graph::{Arithmetic, DType, Dim, Graph, Kernels};
use xprompt::runtime::{Device, Input, Model, Precision};
use xprompt::t5::graphs;
use xprompt::task::LabelTrie;

use crate::support::nano;

#[test]
fn what_a_run_keeps_goes_into_the_next_one_in_whatever_format_it_is() {
    for floats in [DType::F32, DType::Bf16, DType::F16] {
        let shape: [Dim; 2] = ["batch".into(), 2.into()];
        let (mut first, mut second) = (Graph::new(Arithmetic::STANDARD), Graph::new(Arithmetic::STANDARD));
        let x = first.input("x", DType::F32, &shape);
        let kept = first.cast(x, floats);
        first.output("kept", kept);
        let kept = second.input("kept", floats, &shape);
        let seen = second.cast(kept, DType::F32);
        second.output("seen", seen);
        let [mut first, mut second] = [first, second].map(|graph| nano().session(&graph, &[]).unwrap());
        let x = [("x", Input::f32([1, 2], &[1.0, -2.0]))];
        let kept = first.run_keeping(&x, |_| true).unwrap().take("kept").unwrap();
        for _ in 0..2 {
            let mut seen = second.run(&[("kept", Input::Kept(&kept))]).unwrap();
            assert_eq!(seen.take("seen").unwrap().f32s().unwrap(), [1.0, -2.0], "{floats:?}");
        }
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

#[test]
fn a_session_scores_on_while_its_weights_move_into_huge_pages() {
    let model = crate::narrow::of_copy(&crate::support::root().join("models/t5-nano"), Precision::Int8);
    let text: Vec<u32> = (0..40).map(|i| 200 + i * 13 % 90).collect();
    let source = Source { prompt: &[], text: &text };
    let trie = LabelTrie::new(&[("a".into(), vec![300]), ("b".into(), vec![301])], 0, 1).unwrap();
    let mut scorer = Scorer::new(&model).unwrap();
    let before = scorer.score(&[(source, &trie)]).unwrap();
    let moved = std::thread::scope(|scope| {
        let moving = scope.spawn(|| model.into_huge_pages());
        while !moving.is_finished() {
            assert_eq!(scorer.score(&[(source, &trie)]).unwrap(), before);
        }
        moving.join().unwrap()
    });
    match moved {
        Ok(bytes) => assert!(bytes >= 4 << 20, "{bytes} bytes were moved"),
        Err(reason) => eprintln!("not moved here: {reason}"),
    }
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
