use xprompt::graph::{Arithmetic, DType, Dim, Graph};
use xprompt::runtime::Input;

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
