//! Self-attention, one head of one example at a time.

mod head;

#[cfg(target_arch = "x86_64")]
use head::Pairs;
use head::{Floats, Head};

use super::tiles::{self, At, COLUMNS};
use super::{Each, Shared};

/// What attends to what, in a packed batch.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct SelfAttention<'a> {
    /// `[rows, 3 * heads * d]`: the queries, the keys and the values of all heads.
    pub(in super::super) qkv: &'a [f32],
    /// Where the rows of each example begin, and where the last ends.
    pub(in super::super) starts: &'a [i64],
    /// `[heads, 2 * far + 1]`: the bias of a key by how far it is behind the query, from -far to far; farther ones have
    /// that of the farthest.
    pub(in super::super) position: &'a [f32],
    pub(in super::super) heads: usize,
    pub(in super::super) numbers: Numbers,
}

/// What queries, keys, values and their weights are multiplied in; sums are of f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Numbers {
    F32,
    /// Rounded to bf16, in which some processors multiply twice as many at once.
    Bf16,
}

/// Examples of the same length, with a bias for each pair of positions.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Biased<'a> {
    /// `[examples * length, 3 * heads * d]`.
    pub(in super::super) qkv: &'a [f32],
    /// `[examples, heads, length, length]`.
    pub(in super::super) bias: &'a [f32],
    pub(in super::super) heads: usize,
    pub(in super::super) length: usize,
}

/// softmax(q k' + position) v, `[rows, heads * d]`. Examples do not see each other.
pub(in super::super) fn attend(each: Each<'_>, of: SelfAttention<'_>, y: &mut [f32]) {
    let SelfAttention { qkv, starts, position, heads, numbers } = of;
    let rows = y_rows(starts);
    if rows == 0 {
        return;
    }
    assert!(heads > 0 && position.len().is_multiple_of(heads), "rows and heads");
    let inner = qkv.len() / 3 / rows;
    assert!(qkv.len() == 3 * rows * inner && y.len() == rows * inner, "queries, keys and values of rows");
    let (d, table) = (inner / heads, position.len() / heads);
    let y = Shared(y.as_mut_ptr());
    each((starts.len() - 1) * heads, &|piece| {
        let (example, head) = (piece / heads, piece % heads);
        let [first, end] = [starts[example], starts[example + 1]].map(|at| at.unsigned_abs() as usize);
        let length = end - first;
        if length == 0 {
            return;
        }
        let position = toeplitz(&position[head * table..][..table], length);
        // the bias of the first key is one further on for each query before
        let bias = |query: usize| &position[length - 1 - query..][..length];
        let (from, to) = (three(qkv, inner, first, head * d), part(y, inner, first, head * d));
        // SAFETY: the example's rows end at `end`, and a head's columns within them.
        unsafe {
            match numbers {
                Numbers::F32 => attend_with(&mut Floats::new([length, d], from), [length, d], bias, to),
                #[cfg(target_arch = "x86_64")]
                Numbers::Bf16 if tiles::have_pairs() => {
                    attend_with(&mut Pairs::new([length, d], from), [length, d], bias, to);
                }
                Numbers::Bf16 => attend_with(&mut Floats::rounded([length, d], from), [length, d], bias, to),
            }
        }
    });
}

/// softmax(q k' + bias) v, `[examples * length, heads * d]`.
pub(in super::super) fn attend_biased(each: Each<'_>, biased: Biased<'_>, y: &mut [f32]) {
    let Biased { qkv, bias, heads, length } = biased;
    let pairs = length * length;
    assert!(heads > 0 && length > 0 && bias.len().is_multiple_of(heads * pairs), "biases of all pairs");
    let examples = bias.len() / pairs / heads;
    let inner = qkv.len() / 3 / (examples * length).max(1);
    assert!(qkv.len() == 3 * examples * length * inner && 3 * y.len() == qkv.len(), "rows of all examples");
    let d = inner / heads;
    let y = Shared(y.as_mut_ptr());
    each(examples * heads, &|piece| {
        let (first, head) = (piece / heads * length, piece % heads);
        let (from, to) = (three(qkv, inner, first, head * d), part(y, inner, first, head * d));
        let bias = |query: usize| &bias[piece * pairs + query * length..][..length];
        // SAFETY: the example has `length` rows, and a head's columns are within them.
        unsafe { attend_with(&mut Floats::new([length, d], from), [length, d], bias, to) };
    });
}

/// Queries, keys and values of a head from an example's first row on.
fn three(qkv: &[f32], inner: usize, first: usize, column: usize) -> [At<*const f32>; 3] {
    [0, 1, 2].map(|part| {
        let from = &qkv[first * 3 * inner + part * inner + column..];
        At { data: from.as_ptr(), stride: 3 * inner }
    })
}

/// Where a head's results go from an example's first row on.
fn part(y: Shared, inner: usize, first: usize, column: usize) -> At<*mut f32> {
    // SAFETY: the caller has checked that y has these rows.
    At { data: unsafe { y.at(first * inner + column) }, stride: inner }
}

fn y_rows(starts: &[i64]) -> usize {
    assert!(starts.first() == Some(&0) && starts.is_sorted(), "examples begin behind each other");
    starts.last().map_or(0, |&end| end.unsigned_abs() as usize)
}

/// The bias of key k for query q at `k + length - 1 - q`.
fn toeplitz(table: &[f32], length: usize) -> Vec<f32> {
    let far = table.len() / 2;
    let last = 2 * length - 1;
    (0..last).map(|i| table[(i + far).saturating_sub(length - 1).min(table.len() - 1)]).collect()
}

/// # Safety
/// The head has `length` rows of `d` numbers, as has y, whose nobody else uses.
unsafe fn attend_with<'b>(
    head: &mut impl Head,
    [length, d]: [usize; 2],
    bias: impl Fn(usize) -> &'b [f32],
    y: At<*mut f32>,
) {
    let panels = length.div_ceil(COLUMNS);
    let keys = panels * COLUMNS;
    let at_once = head.at_once();
    let mut scores = vec![0.0; at_once * keys];
    for first in (0..length).step_by(at_once) {
        let count = (length - first).min(at_once);
        for panel in 0..panels {
            let to = At { data: scores[panel * COLUMNS..].as_mut_ptr(), stride: keys };
            // SAFETY: the scores have place for a tile of each panel.
            unsafe { head.score(first, count, panel, to) };
        }
        for (i, scores) in scores.chunks_mut(keys).take(count).enumerate() {
            head.weigh(i, &mut scores[..length], bias(first + i));
        }
        let weights = At { data: scores.as_ptr(), stride: keys };
        for column in (0..d).step_by(COLUMNS) {
            let columns = (d - column).min(COLUMNS);
            // SAFETY: as many rows were weighed; the caller gave the place of the results.
            unsafe {
                let to = At { data: y.data.add(first * y.stride + column), ..y };
                head.mix(weights, count, column..column + columns, to);
            }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// What a processor without products of bf16 computes.
    #[test]
    fn pairs_give_what_rounded_floats_give() {
        if !tiles::have_pairs() {
            eprintln!("this processor has no products of bf16");
            return;
        }
        for [length, d] in [[1, 64], [5, 7], [33, 20], [70, 64]] {
            let numbers = |seed: usize| -> Vec<f32> {
                (0..length * d).map(|i| ((i + seed) * 7919 % 2003) as f32 / 1000.0 - 1.0).collect()
            };
            let [q, k, v] = [1, 2, 3].map(numbers);
            let from = [&q, &k, &v].map(|x| At { data: x.as_ptr(), stride: d });
            let bias = vec![0.0; length];
            let [mut of_pairs, mut of_floats] = [(); 2].map(|()| vec![0.0; length * d]);
            // SAFETY: all have as many rows and columns.
            unsafe {
                let to = At { data: of_pairs.as_mut_ptr(), stride: d };
                attend_with(&mut Pairs::new([length, d], from), [length, d], |_| &bias, to);
                let to = At { data: of_floats.as_mut_ptr(), stride: d };
                attend_with(&mut Floats::rounded([length, d], from), [length, d], |_| &bias, to);
            }
            for (pairs, floats) in of_pairs.iter().zip(&of_floats) {
                // a weight may be rounded the other way
                assert!((pairs - floats).abs() < 2e-3, "{length} by {d}: {pairs} and {floats}");
            }
        }
    }
}
