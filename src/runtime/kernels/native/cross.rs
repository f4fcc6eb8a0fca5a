//! Attention of decoder positions to the encoder's rows, absorbed: keys and values are never made.

use std::ops::Range;

use super::products::Weight;
use super::tiles::{self, At, COLUMNS, DOT_COLUMNS, DOT_ROWS, ROWS};
use super::{Each, Shared};
use crate::runtime::kernels::rows;

/// What attends to what.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Absorbed<'a> {
    /// `[examples * positions, heads * d]`.
    pub(in super::super) q: &'a [f32],
    /// `[rows, width]`.
    pub(in super::super) hidden: &'a [f32],
    /// The rows of each example.
    pub(in super::super) places: &'a [Range<usize>],
    /// `[heads * d, width]`.
    pub(in super::super) keys: Stored<'a>,
    /// `[heads * d, width]`.
    pub(in super::super) values: Stored<'a>,
    pub(in super::super) heads: usize,
}

/// A weight in the order of a checkpoint.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Stored<'a> {
    Floats(Weight),
    /// With a scale for each row.
    Int8 {
        values: &'a [i8],
        scales: &'a [f32],
    },
    Bf16 {
        bits: &'a [u16],
        rows: usize,
    },
}

/// Columns of a weight that a piece of work takes.
const TOGETHER: usize = 8 * COLUMNS;

/// softmax(q (hidden keys')') (hidden values'), `[examples * positions, heads * d]`, head by head.
pub(in super::super) fn attend(each: Each<'_>, absorbed: Absorbed<'_>, y: &mut [f32]) {
    let Absorbed { q, hidden, places, keys, values, heads } = absorbed;
    let inner = keys.rows();
    let (d, rows, examples) = (inner / heads.max(1), q.len() / inner, places.len());
    let width = keys.width();
    assert!(keys.has(inner, width) && values.has(inner, width), "keys and values of the encoder's rows");
    assert!(y.len() == q.len() && rows.is_multiple_of(examples.max(1)), "positions of examples");
    // what the queries ask of the encoder's own columns; then what they get: `[rows, heads, width]`
    let mut asked = vec![0.0_f32; rows * heads * width];
    let shared = Shared(asked.as_mut_ptr());

    let groups = width.div_ceil(TOGETHER);
    each(heads * groups, &|piece| {
        let (head, first_column) = (piece / groups, piece % groups * TOGETHER);
        let own = TOGETHER.min(width - first_column);
        let mut spare = Vec::new();
        let panels =
            keys.columns_from(head * d..(head + 1) * d, first_column..first_column + own, &mut spare);
        for column in (0..own).step_by(COLUMNS) {
            let columns = (own - column).min(COLUMNS);
            for first in (0..rows).step_by(ROWS) {
                let count = (rows - first).min(ROWS);
                let a = At { data: q[first * inner + head * d..].as_ptr(), stride: inner };
                // SAFETY: the panels have these columns, of which no other piece has those of this head.
                unsafe {
                    let b = At { data: panels.data.add(column), ..panels };
                    let to = shared.at((first * heads + head) * width + first_column + column);
                    tiles::product([count, d, columns], a, b, At { data: to, stride: heads * width });
                }
            }
        }
    });

    // few examples are shared by more threads
    let at_once = if examples < 8 { ROWS / 2 } else { 2 * ROWS };
    let per_example = rows / examples.max(1) * heads;
    let blocks = per_example.div_ceil(at_once);
    each(examples * blocks, &|piece| {
        let (example, block) = (piece / blocks, piece % blocks);
        let own = block * at_once..((block + 1) * at_once).min(per_example);
        let at = (example * per_example + own.start) * width;
        // SAFETY: no other piece has these rows.
        let asked = unsafe { shared.part(at..at + own.len() * width) };
        let Range { start, end } = places[example];
        look(asked, &hidden[start * width..end * width], width);
    });

    let y = Shared(y.as_mut_ptr());
    let groups = d.div_ceil(4 * DOT_COLUMNS);
    each(heads * groups, &|piece| {
        let (head, group) = (piece / groups, piece % groups);
        let own = group * 4 * DOT_COLUMNS..((group + 1) * 4 * DOT_COLUMNS).min(d);
        let mut weight = vec![0.0; DOT_COLUMNS * width];
        for column in own.clone().step_by(DOT_COLUMNS) {
            let columns = (own.end - column).min(DOT_COLUMNS);
            let weight = values.rows_from(head * d + column, &mut weight[..columns * width]);
            for first in (0..rows).step_by(DOT_ROWS) {
                let count = (rows - first).min(DOT_ROWS);
                let stride = heads * width;
                // SAFETY: nobody writes to what was asked any more, and no other piece has these columns of y.
                unsafe {
                    let a = At { data: shared.at((first * heads + head) * width).cast_const(), stride };
                    let b = At { data: weight, stride: width };
                    let to = At { data: y.at(first * inner + head * d + column), stride: inner };
                    tiles::dots([count, width, columns], a, b, to);
                }
            }
        }
    });
}

// === impl Stored ===

impl Stored<'_> {
    fn rows(&self) -> usize {
        match self {
            Self::Floats(weight) => weight.outputs,
            Self::Int8 { scales, .. } => scales.len(),
            Self::Bf16 { rows, .. } => *rows,
        }
    }

    fn width(&self) -> usize {
        match self {
            Self::Floats(weight) => weight.inner,
            Self::Int8 { values, scales } => values.len() / scales.len().max(1),
            Self::Bf16 { bits, rows } => bits.len() / (*rows).max(1),
        }
    }

    fn has(&self, rows: usize, width: usize) -> bool {
        match self {
            Self::Floats(weight) => (weight.outputs, weight.inner) == (rows, width),
            Self::Int8 { values, scales } => scales.len() == rows && values.len() == rows * width,
            Self::Bf16 { bits, rows: own } => *own == rows && bits.len() == rows * width,
        }
    }

    /// Where whole rows from one on lie as floats, behind each other: in the weight, or in `spare`, which has their length.
    fn rows_from(&self, first: usize, spare: &mut [f32]) -> *const f32 {
        let width = self.width();
        if let Self::Floats(weight) = self {
            assert!(first * width + spare.len() <= weight.outputs * width, "rows of the weight");
            // SAFETY: the weight has that row, as was just checked.
            return unsafe { weight.at(first, 0) };
        }
        for (i, row) in spare.chunks_mut(width).enumerate() {
            self.read(first + i, width, 0, row);
        }
        spare.as_ptr()
    }

    /// Where columns of rows, at most [`TOGETHER`], lie as floats: in the weight, or in `spare`. Of each row a multiple of
    /// [`COLUMNS`] may be read.
    fn columns_from(
        &self,
        rows: Range<usize>,
        columns: Range<usize>,
        spare: &mut Vec<f32>,
    ) -> At<*const f32> {
        if let Self::Floats(weight) = self
            && columns.len().is_multiple_of(COLUMNS)
        {
            assert!(rows.end <= weight.outputs && columns.end <= weight.inner, "a part of the weight");
            // SAFETY: the weight has these rows and columns, as was just checked.
            return unsafe {
                for row in rows.clone() {
                    tiles::fetch(weight.at(row, columns.start), columns.len());
                }
                At { data: weight.at(rows.start, columns.start), stride: weight.inner }
            };
        }
        spare.resize(rows.len() * TOGETHER, 0.0);
        for (row, spare) in rows.zip(spare.chunks_mut(TOGETHER)) {
            self.read(row, self.width(), columns.start, &mut spare[..columns.len()]);
        }
        At { data: spare.as_ptr(), stride: TOGETHER }
    }

    /// Elements of a row from a column on, as floats.
    fn read(&self, row: usize, width: usize, column: usize, floats: &mut [f32]) {
        assert!(row < self.rows() && column + floats.len() <= width, "elements of the weight");
        match self {
            // SAFETY: the weight has these elements; it may be aligned to bytes only.
            Self::Floats(weight) => unsafe {
                let from = weight.at(row, column).cast::<u8>();
                std::ptr::copy_nonoverlapping(from, floats.as_mut_ptr().cast(), size_of_val(floats));
            },
            Self::Int8 { values, scales } => {
                rows::to_floats(&values[row * width + column..][..floats.len()], scales[row], floats);
            }
            Self::Bf16 { bits, .. } => {
                rows::from_bf16(&bits[row * width + column..][..floats.len()], floats);
            }
        }
    }
}

/// Each row of `asked` becomes the mean of the rows of `hidden`, weighed by the softmax of its product with them.
fn look(asked: &mut [f32], hidden: &[f32], width: usize) {
    if hidden.is_empty() {
        asked.fill(0.0);
        return;
    }
    let (rows, length) = (asked.len() / width, hidden.len() / width);
    let mut scores = vec![0.0; rows * length];
    for key in (0..length).step_by(DOT_COLUMNS) {
        for row in (0..rows).step_by(DOT_ROWS) {
            let (count, columns) = ((rows - row).min(DOT_ROWS), (length - key).min(DOT_COLUMNS));
            let a = At { data: asked[row * width..].as_ptr(), stride: width };
            let b = At { data: hidden[key * width..].as_ptr(), stride: width };
            let to = At { data: scores[row * length + key..].as_mut_ptr(), stride: length };
            // SAFETY: all have as many rows and columns.
            unsafe { tiles::dots([count, width, columns], a, b, to) };
        }
    }
    scores.chunks_mut(length).for_each(rows::plain_softmax);
    let whole = width / COLUMNS * COLUMNS;
    let mut rest = Vec::new();
    for column in (0..width).step_by(COLUMNS) {
        let columns = (width - column).min(COLUMNS);
        let mut b = At { data: hidden[column..].as_ptr(), stride: width };
        if column >= whole {
            rest.resize(length * COLUMNS, 0.0);
            for (rest, hidden) in rest.chunks_mut(COLUMNS).zip(hidden.chunks(width)) {
                rest[..columns].copy_from_slice(&hidden[column..]);
            }
            b = At { data: rest.as_ptr(), stride: COLUMNS };
        }
        for first in (0..rows).step_by(ROWS) {
            let count = (rows - first).min(ROWS);
            let a = At { data: scores[first * length..].as_ptr(), stride: length };
            let to = At { data: asked[first * width + column..].as_mut_ptr(), stride: width };
            // SAFETY: as above; what was asked is in the scores.
            unsafe { tiles::product([count, length, columns], a, b, to) };
        }
    }
}
