use xprompt::runtime::Input;
use xprompt::t5::{graphs, step};

use crate::t5_reference::{Batch, VOCABULARY, assert_close, chain, each_variant};

/// More positions than two blocks of the cache have.
const STEPS: usize = 40;
/// Steps after which the second row begins.
const LATER: usize = 5;
/// The blocks of the rows: none in the order of the cache.
const BLOCKS: [[i64; 3]; 2] = [[3, 1, 5], [6, 2, 4]];

/// Steps of two rows that began at different times, against one pass over all positions, which is checked against
/// transformers.
#[test]
fn steps_over_a_cache_of_scattered_blocks_say_what_a_pass_over_all_positions_says() {
    each_variant(|name, arithmetic, model, expected| {
        let batch = Batch::read(expected);
        let shapes = batch.shapes();
        let tokens = |row: usize| {
            (0..STEPS)
                .map(move |i| if i == 0 { 0 } else { (2 + (31 * i + 7 * row) % (VOCABULARY - 2)) as i64 })
        };
        let ids: Vec<i64> = (0..batch.rows).flat_map(|row| tokens(row % 2)).collect();
        let (bias, all) = (chain(model, batch.rows, STEPS), (0..VOCABULARY as i64).collect::<Vec<_>>());
        let mut inputs = batch.inputs(&shapes);
        inputs.extend([
            (graphs::DECODER_IDS, Input::i64([batch.rows, STEPS], &ids)),
            (graphs::BIAS_INDEX, Input::i64([batch.rows, STEPS, STEPS], &bias)),
            (graphs::CANDIDATES, Input::i64([VOCABULARY], &all)),
        ]);
        let checkpoint = model.checkpoint();
        let mut pass = model.session(&graphs::scoring(checkpoint, arithmetic), &[]).unwrap();
        let want = pass.run(&inputs).unwrap().take(graphs::LOGITS).unwrap();
        let want =
            |row: usize, i: usize| &want.f32s().unwrap()[(row * STEPS + i) * VOCABULARY..][..VOCABULARY];

        let mut encoder = model.session(&graphs::encoder(checkpoint, arithmetic), &[]).unwrap();
        let mut encoded = encoder.run_keeping(&batch.inputs(&shapes), |_| true).unwrap();
        let hidden = encoded.take(graphs::ENCODER_HIDDEN).unwrap();
        let cache = model.state(&step::cache_shape(model.config(), 8)).unwrap();
        let mut steps = model.replayed_session(&step::decoder_step(checkpoint, arithmetic)).unwrap();
        // the first two rows take part; the others write into a block that nothing reads
        for i in 0..STEPS + LATER {
            let at = [i.min(STEPS - 1), i.saturating_sub(LATER)];
            let mut table = vec![0_i64; 3 * batch.rows];
            let (mut ids, mut ages) = (vec![0_i64; batch.rows], vec![0_i64; batch.rows]);
            for row in 0..2 {
                table[3 * row..3 * row + 3].copy_from_slice(&BLOCKS[row]);
                ids[row] = tokens(row).nth(at[row]).unwrap();
                ages[row] = at[row] as i64;
            }
            let inputs = [
                (graphs::ENCODER_HIDDEN, Input::Kept(&hidden)),
                (graphs::MASK, Input::f32([batch.rows, batch.length], &batch.mask)),
                (graphs::DECODER_IDS, Input::i64([batch.rows, 1], &ids)),
                (step::CACHE, Input::State(&cache)),
                (step::CACHE_TABLE, Input::i64([batch.rows, 3], &table)),
                (step::AGES, Input::i64([batch.rows], &ages)),
            ];
            let mut said = steps.run(&inputs).unwrap();
            let (logits, best) = (said.take(graphs::LOGITS).unwrap(), said.take(step::MOST_LIKELY).unwrap());
            for (row, &at) in at.iter().enumerate() {
                let logits = &logits.f32s().unwrap()[row * VOCABULARY..][..VOCABULARY];
                let what = format!("{name} row {row} position {at}");
                assert_close(&what, arithmetic.floats, logits, want(row, at));
                let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let first = logits.iter().position(|&x| x == largest).unwrap();
                assert_eq!(best.f32s().unwrap()[row], first as f32, "{what}");
            }
            // what is not wanted does not come, and the step is the same however often it is taken
            let mut again = steps.run_for(&inputs, |name| name == step::MOST_LIKELY).unwrap();
            let again = again.take(step::MOST_LIKELY).unwrap();
            assert_eq!(again.f32s().unwrap()[..2], best.f32s().unwrap()[..2], "{name}");
        }
    });
}
