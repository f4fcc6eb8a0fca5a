//! Every implementation of a tile computes the same.

use super::{At, COLUMNS, DEPTH, DOT_COLUMNS, DOT_ROWS, ROWS, Scales, dots, integers, plain, product, turn};

/// Numbers of both signs.
fn numbers(count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect()
}

fn assert_close(got: &[f32], want: &[f32], what: &str) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() <= 1e-4 * (1.0 + want.abs()), "{what}, {i}: {got} for {want}");
    }
}

/// Sizes with and without rests.
fn sizes(rows: usize, columns: usize) -> impl Iterator<Item = [usize; 3]> {
    let of = [1, 3, 16, 21, 64];
    (1..=rows).flat_map(move |rows| {
        of.into_iter().flat_map(move |inner| (1..=columns).map(move |columns| [rows, inner, columns]))
    })
}

#[test]
fn a_tile_is_the_product_of_its_sides() {
    for [rows, inner, columns] in sizes(ROWS, COLUMNS) {
        let (a, b) = (numbers(rows * inner), numbers(inner * COLUMNS));
        let mut want = vec![0.0; rows * columns];
        for i in 0..rows * columns {
            let terms = (0..inner).map(|k| a[i / columns * inner + k] * b[k * COLUMNS + i % columns]);
            want[i] = terms.sum();
        }
        for function in [
            |sizes, a, b, c| unsafe { product(sizes, a, b, c) },
            plain::product as fn([usize; 3], At<*const f32>, At<*const f32>, At<*mut f32>),
        ] {
            let mut c = vec![9.0; rows * columns + 1];
            let (a, b) = (At { data: a.as_ptr(), stride: inner }, At { data: b.as_ptr(), stride: COLUMNS });
            function([rows, inner, columns], a, b, At { data: c.as_mut_ptr(), stride: columns });
            assert_eq!(c.pop(), Some(9.0), "nothing is written behind a tile");
            assert_close(&c, &want, &format!("{rows} {inner} {columns}"));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_tile_of_pairs_is_the_product_of_their_numbers() {
    if !super::have_pairs() {
        eprintln!("this processor has no products of bf16");
        return;
    }
    // numbers of few digits: bf16 holds them, and f32 their products
    let number = |i: usize| (i * 37 % 101) as f32 - 50.0;
    let half = |x: f32| x.to_bits() >> 16;
    for [rows, inner, columns] in sizes(ROWS, COLUMNS) {
        let a: Vec<u32> =
            (0..rows * inner).map(|i| half(number(2 * i)) | half(number(2 * i + 1)) << 16).collect();
        let b_at = |k: usize, j: usize| number(k * COLUMNS + j + 7);
        let b: Vec<u32> = (0..inner * COLUMNS)
            .map(|i| {
                half(b_at(i / COLUMNS * 2, i % COLUMNS)) | half(b_at(i / COLUMNS * 2 + 1, i % COLUMNS)) << 16
            })
            .collect();
        let mut c = vec![9.0; rows * columns + 1];
        let at = At { data: a.as_ptr(), stride: inner };
        let (b, to) =
            (At { data: b.as_ptr(), stride: COLUMNS }, At { data: c.as_mut_ptr(), stride: columns });
        unsafe { super::pairs([rows, inner, columns], at, b, to) };
        assert_eq!(c.pop(), Some(9.0), "nothing is written behind a tile");
        for (i, c) in c.into_iter().enumerate() {
            let terms = (0..2 * inner).map(|k| number(i / columns * 2 * inner + k) * b_at(k, i % columns));
            assert_eq!(c, terms.sum::<f32>(), "{rows} {inner} {columns}, {i}");
        }
    }
}

#[test]
fn dots_are_the_products_of_rows() {
    for [rows, inner, columns] in sizes(DOT_ROWS, DOT_COLUMNS) {
        let (a, b) = (numbers(rows * inner), numbers(columns * inner + 3));
        let mut want = vec![0.0; rows * columns];
        for i in 0..rows * columns {
            want[i] = (0..inner).map(|k| a[i / columns * inner + k] * b[i % columns * inner + k + 3]).sum();
        }
        for function in [
            |sizes, a, b, c| unsafe { dots(sizes, a, b, c) },
            plain::dots as fn([usize; 3], At<*const f32>, At<*const f32>, At<*mut f32>),
        ] {
            let mut c = vec![0.0; rows * columns];
            let a = At { data: a.as_ptr(), stride: inner };
            let b = At { data: b[3..].as_ptr(), stride: inner };
            function([rows, inner, columns], a, b, At { data: c.as_mut_ptr(), stride: columns });
            assert_close(&c, &want, &format!("{rows} {inner} {columns}"));
        }
    }
}

#[test]
fn rows_that_are_turned_are_columns() {
    for (columns, inner) in [(32, 16), (32, 37), (5, 20), (31, 64)] {
        let b = numbers(columns * inner);
        let mut panel = vec![0.0; inner * COLUMNS];
        unsafe { turn([columns, inner], At { data: b.as_ptr(), stride: inner }, &mut panel) };
        for j in 0..columns {
            for k in 0..inner {
                assert_eq!(panel[k * COLUMNS + j], b[j * inner + k], "{k} of {j}");
            }
        }
    }
}

/// Also at the largest magnitudes, where a sum of two products nearly fills 16 bits.
#[test]
fn integers_are_multiplied_exactly() {
    for [rows, inner, columns] in sizes(ROWS, COLUMNS).filter(|[_, inner, _]| *inner < 22) {
        let x: Vec<u8> = (0..rows * inner * DEPTH).map(|i| [1, 255, 128, 77, 200][i * 7 % 5]).collect();
        let w: Vec<i8> =
            (0..inner * COLUMNS * DEPTH).map(|i| [127, -127, 0, 5, -33, 127][i * 5 % 6]).collect();
        let (of_rows, of_columns) = (numbers(rows), numbers(COLUMNS));
        let number = |k: usize, j: usize, depth: usize| i32::from(w[(k * COLUMNS + j) * DEPTH + depth]);
        let zeros: Vec<f32> = (0..COLUMNS)
            .map(|j| {
                let sum: i32 = (0..inner * DEPTH).map(|k| number(k / DEPTH, j, k % DEPTH)).sum();
                -128.0 * sum as f32
            })
            .collect();
        let mut want = vec![0.0; rows * columns];
        for (i, want) in want.iter_mut().enumerate() {
            let (row, j) = (i / columns, i % columns);
            let term =
                |k: usize| (i32::from(x[row * inner * DEPTH + k]) - 128) * number(k / DEPTH, j, k % DEPTH);
            *want = (0..inner * DEPTH).map(term).sum::<i32>() as f32 * (of_columns[j] * of_rows[row]);
        }
        let check = |name: &str, function: &dyn Fn(At<*const u8>, Scales, At<*mut f32>)| {
            let mut c = vec![0.0; rows * columns];
            let scales =
                Scales { rows: of_rows.as_ptr(), columns: of_columns.as_ptr(), zeros: zeros.as_ptr() };
            let a = At { data: x.as_ptr(), stride: inner * DEPTH };
            function(a, scales, At { data: c.as_mut_ptr(), stride: columns });
            assert_close(&c, &want, &format!("{name} {rows} {inner} {columns}"));
        };
        let sizes = [rows, inner, columns];
        check("usual", &|a, scales, c| unsafe { integers(sizes, a, w.as_ptr(), scales, c) });
        check("plain", &|a, scales, c| plain::integers(sizes, a, w.as_ptr(), scales, c));
        #[cfg(target_arch = "x86_64")]
        if super::avx2::is_here() {
            check("avx2", &|a, scales, c| unsafe {
                super::avx2::integers(sizes, a, w.as_ptr(), scales, c);
            });
        }
    }
}
