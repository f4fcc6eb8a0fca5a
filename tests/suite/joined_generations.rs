use xprompt::engine::{BeamSettings, Decoding, Generated, Generation, Generator, Method, Sampling, Source};
use xprompt::runtime::Device;

use crate::support::{VARIANTS, fixtures, model, nano};

fn sample(seed: u64, max_new_tokens: usize) -> Decoding {
    let sampling = Sampling { temperature: 0.9, top_k: Some(50), top_p: 0.95, seed, stream: 0 };
    Decoding { max_new_tokens, method: Method::Sample(sampling) }
}

fn beams(count: usize, max_new_tokens: usize) -> Decoding {
    Decoding { max_new_tokens, method: Method::Beams(BeamSettings { count, length_penalty: 1.0 }) }
}

/// Ways to generate that end after different numbers of steps.
fn decodings() -> Vec<Decoding> {
    vec![
        Decoding::greedy(9),
        sample(1, 14),
        beams(3, 11),
        Decoding::greedy(1),
        sample(2, 5),
        beams(2, 4),
        Decoding::greedy(16),
        sample(3, 16),
        // over more than one block of the cache
        beams(3, 36),
        Decoding::greedy(40),
    ]
}

/// Texts that come one by one, each a step or more after the one before, joined as soon as they can be.
fn joined(generator: &mut Generator, sources: &[Source<'_>], decodings: &[Decoding]) -> Vec<Generated> {
    let mut texts: Vec<Option<Generated>> = vec![None; sources.len()];
    let mut running: Option<(Vec<(usize, usize)>, Generation)> = None;
    let mut joins = 0;
    for i in 0..sources.len() {
        let mut new = generator.start(&sources[i..=i], &decodings[i..=i]).unwrap();
        generator.step(&mut new).unwrap();
        let mut names = vec![(0, i)];
        running = Some(match running.take() {
            Some((mut known, mut generation)) if generation.fits(&new, 64, 4096, 100) => {
                let by = generator.join(&mut generation, new).unwrap();
                known.extend(names.drain(..).map(|(number, text)| (number + by, text)));
                joins += 1;
                (known, generation)
            }
            Some((known, mut generation)) => {
                while !generation.is_finished() {
                    generator.step(&mut generation).unwrap();
                }
                take(&mut texts, known, &mut generation);
                (names, new)
            }
            None => (names, new),
        });
        let (known, generation) = running.as_mut().unwrap();
        // every second text comes two steps after the one before
        for _ in 0..=i % 2 {
            generator.step(generation).unwrap();
        }
        let ended = std::mem::take(known);
        *known = take(&mut texts, ended, generation);
    }
    let (known, mut generation) = running.unwrap();
    while !generation.is_finished() {
        generator.step(&mut generation).unwrap();
    }
    assert!(take(&mut texts, known, &mut generation).is_empty());
    assert!(joins >= sources.len() / 2, "{joins} of {} were joined", sources.len());
    texts.into_iter().map(Option::unwrap).collect()
}

/// Takes out the texts that ended; returns the others.
fn take(
    texts: &mut [Option<Generated>],
    known: Vec<(usize, usize)>,
    generation: &mut Generation,
) -> Vec<(usize, usize)> {
    let mut rest = Vec::new();
    for (number, text) in known {
        match generation.take_ended(number) {
            Some(generated) => texts[text] = Some(generated),
            None => rest.push((number, text)),
        }
    }
    rest
}

#[test]
fn texts_that_join_others_under_way_are_the_texts_that_they_are_alone() {
    let folders = VARIANTS.iter().map(|name| fixtures().join("models").join(name));
    let models: Vec<_> = folders.map(|folder| model(&folder)).chain([nano()]).collect();
    for model in &models {
        let mut generator = Generator::new(model).unwrap();
        let vocabulary = model.config().vocab_size as u32;
        let (decodings, d) = (decodings(), model.config().d_model);
        let texts: Vec<Vec<u32>> = (0..decodings.len() as u32)
            .map(|i| {
                (0..3 + 7 * (i % 3)).map(|k| 2 + (31 * k + 5 * i) % (vocabulary - 2)).chain([1]).collect()
            })
            .collect();
        let row: Vec<f32> = (0..2 * d).map(|i| (i % 7) as f32 / 10.0 - 0.3).collect();
        let prompt = |i: usize| [&row[..], &row[..d]][i % 2];
        let sources: Vec<Source<'_>> =
            texts.iter().enumerate().map(|(i, text)| Source { prompt: prompt(i), text }).collect();
        let together = joined(&mut generator, &sources, &decodings);
        for i in 0..sources.len() {
            let alone = generator.decode(&sources[i..=i], &decodings[i..=i]).unwrap().remove(0);
            assert_eq!(together[i], alone, "text {i} of {}", model.checkpoint().folder().display());
        }
    }
}

#[test]
fn batches_whose_lengths_are_far_apart_or_that_are_too_large_together_do_not_fit() {
    // where sizes are not rounded
    let mut generator = Generator::new(&nano().on(Device::Cpu)).unwrap();
    let mut start = |length: u32, decoding: Decoding| {
        let text: Vec<u32> = (0..length).map(|k| 20 + k).collect();
        let mut generation = generator.start(&[Source { prompt: &[], text: &text }], &[decoding]).unwrap();
        generator.step(&mut generation).unwrap();
        generation
    };
    let (short, long) = (start(10, Decoding::greedy(50)), start(100, Decoding::greedy(50)));
    assert!(short.fits(&long, 2, 200, 45) && !short.fits(&long, 2, 200, 44), "90 of 200 are padding");
    assert!(!short.fits(&long, 2, 199, 100) && !short.fits(&long, 1, 200, 100));
    let wide = start(10, beams(4, 50));
    assert!(short.fits(&wide, 5, 4096, 100) && !short.fits(&wide, 4, 4096, 100), "beams take rows");
    let ended = start(10, Decoding::greedy(1));
    assert!(!short.fits(&ended, 64, 4096, 100) && !ended.fits(&short, 64, 4096, 100));
}
