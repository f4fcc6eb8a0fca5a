//! What operators on a CPU get and give: tensors, and the session's threads.

use std::sync::{Mutex, PoisonError};

use ort::operator::ComputeContext;
use ort::value::{DynTensorValueType, ValueRef, ValueRefMut};

/// Elements that are worth handing to another thread.
pub(super) const WORTH_A_THREAD: usize = 16 * 1024;

/// An input.
pub(super) fn input(context: &ComputeContext, index: usize) -> ort::Result<ValueRef<'_>> {
    context.input(index)?.ok_or_else(|| ort::Error::new(format!("input {index} is missing")))
}

/// Where an input of f32 lies, which a file may have at any byte, and its shape.
pub(super) fn pointer(context: &ComputeContext, index: usize) -> ort::Result<(*const f32, Vec<usize>)> {
    let tensor = input(context, index)?.downcast::<DynTensorValueType>()?;
    let shape = tensor.shape().iter().map(|size| size.unsigned_abs() as usize).collect();
    Ok((tensor.data_ptr().cast(), shape))
}

/// An output of a shape.
pub(super) fn output<'c>(
    context: &'c ComputeContext,
    index: usize,
    shape: &[usize],
) -> ort::Result<ValueRefMut<'c>> {
    let shape: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
    context.output(index, shape)?.ok_or_else(|| ort::Error::new(format!("output {index} is missing")))
}

/// A shape of so many axes.
pub(super) fn sizes_of<const N: usize>(sizes: &[i64]) -> ort::Result<[usize; N]> {
    let sizes: Vec<usize> = sizes.iter().map(|size| size.unsigned_abs() as usize).collect();
    sizes.try_into().map_err(|sizes| ort::Error::new(format!("{N} sizes were expected, not {sizes:?}")))
}

/// Calls `work` for each of so many pieces, on the session's threads.
pub(super) fn each(context: &ComputeContext, pieces: usize, work: &(dyn Fn(usize) + Sync)) {
    // a reference goes to other threads, a closure of it does not
    struct Work<'w>(&'w (dyn Fn(usize) + Sync));
    impl Work<'_> {
        fn on(&self, piece: usize) {
            (self.0)(piece);
        }
    }
    let work = Work(work);
    if pieces < 2 || context.par_for(pieces, pieces, |piece| work.on(piece)).is_err() {
        (0..pieces).for_each(|piece| work.on(piece));
    }
}

/// Calls `row` with the number and the place of each row of an output.
pub(super) fn by_rows(
    context: &ComputeContext,
    width: usize,
    output: &mut [f32],
    row: impl Fn(usize, &mut [f32]) + Sync + Send,
) {
    let width = width.max(1);
    let per_block = (WORTH_A_THREAD / width).max(1);
    for_each(context, output.chunks_mut(per_block * width).enumerate(), |(block, output)| {
        for (i, output) in output.chunks_mut(width).enumerate() {
            row(block * per_block + i, output);
        }
    });
}

/// Does pieces of work, each of which has a part of the output.
pub(super) fn for_each<T: Send>(
    context: &ComputeContext,
    pieces: impl Iterator<Item = T>,
    work: impl Fn(T) + Sync + Send,
) {
    let pieces: Vec<Mutex<Option<T>>> = pieces.map(|piece| Mutex::new(Some(piece))).collect();
    each(context, pieces.len(), &|i| {
        let piece = pieces[i].lock().unwrap_or_else(PoisonError::into_inner).take();
        piece.into_iter().for_each(&work);
    });
}
