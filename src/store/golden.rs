//! How near a prompt has to answer to its golden examples, which were computed in f32.

use super::LoadError;
use crate::engine::{Answer, Answers};
use crate::prompt::Golden;
use crate::runtime::Precision;
use crate::task::Tokenizer;

/// Golden examples of a file that are replayed; more are ignored.
pub(super) const MAX_GOLDEN: usize = 64;

/// What replaying the golden examples of a file has found.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    texts: usize,
    /// Texts that are others, in a precision where that alone says nothing.
    others: usize,
    first: Option<Other>,
}

/// A text that is another than in the file.
#[derive(Debug)]
struct Other {
    index: usize,
    got: String,
    want: String,
}

/// How far a probability may be from its golden one. Over 4,500 rows the bundled prompts were up to 5e-3 off in TF32 and up to
/// 5e-2 in bf16; over 1,500 of them up to 7e-2 in int8.
#[must_use]
pub(super) fn golden_tolerance(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 1e-3,
        Precision::Tf32 => 1e-2,
        Precision::Bf16 | Precision::F16 | Precision::Int8 => 1e-1,
    }
}

// === impl Replayed ===

impl Replayed {
    /// Compares an answer that was computed in a precision.
    ///
    /// # Errors
    /// If it is not the golden one.
    pub(super) fn compare(
        &mut self,
        (index, golden): (usize, &Golden),
        answers: &Answers,
        answer: &Answer,
        precision: Precision,
        tokenizer: &Tokenizer,
    ) -> Result<(), LoadError> {
        match (answer, answers) {
            (Answer::Labels(scores), Answers::Labels { names, .. }) => {
                let tolerance = golden_tolerance(precision);
                // a probability that is not a number agrees with nothing
                let agree = |(&got, &want): (&f32, &f32)| (got - want).abs() <= tolerance;
                let pairs = scores.iter().zip(&golden.scores);
                match pairs.zip(names).find(|&(pair, _)| !agree(pair)) {
                    Some(((&got, &want), label)) => {
                        let label = label.clone();
                        Err(LoadError::GoldenScore { index, label, got, want, tolerance, precision })
                    }
                    None => Ok(()),
                }
            }
            (Answer::Text(generated), _) => {
                let Some(want) = &golden.text else { return Ok(()) };
                let got = tokenizer.decode(&generated.tokens);
                let got = got.map_err(|source| LoadError::GoldenDecode { index, source })?;
                self.note_text(Other { index, got, want: want.clone() }, precision)
            }
            (Answer::Labels(_), Answers::Text { .. }) => Ok(()),
        }
    }

    fn note_text(&mut self, text: Other, precision: Precision) -> Result<(), LoadError> {
        self.texts += 1;
        if text.got == text.want {
            return Ok(());
        }
        if precision == Precision::F32 {
            let Other { index, got, want } = text;
            return Err(LoadError::GoldenText { index, got, want });
        }
        self.others += 1;
        self.first.get_or_insert(text);
        Ok(())
    }

    /// What is known when all examples were compared. In less than f32 a text may part from the golden one where two
    /// tokens are nearly as likely; most of them do not.
    ///
    /// # Errors
    /// If more than half of the texts are others.
    pub(super) fn verdict(self, precision: Precision) -> Result<(), LoadError> {
        match self.first {
            Some(Other { index, got, want }) if 2 * self.others > self.texts => {
                let (others, texts) = (self.others, self.texts);
                Err(LoadError::GoldenTexts { others, texts, precision, index, got, want })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::t5::Config;
    use std::path::Path;

    const PRECISIONS: [Precision; 5] =
        [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16, Precision::Int8];

    fn tokenizer() -> Tokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/t5-nano");
        let config = Config::read(&folder).unwrap();
        Tokenizer::open(&folder, config.vocab_size, config.eos_token_id).unwrap()
    }

    /// Whether scores that are `off` are taken for the golden ones.
    fn passes(off: f32, precision: Precision) -> bool {
        let tokenizer = tokenizer();
        let trie = crate::task::LabelTrie::new(&[("a".into(), vec![5]), ("b".into(), vec![6])], 0, 1);
        let answers = Answers::Labels { names: vec!["a".into(), "b".into()], trie: trie.unwrap() };
        let golden = Golden { input: "x".into(), scores: vec![0.625, 0.375], text: None };
        let answer = Answer::Labels(vec![0.625 + off, 0.375 - off]);
        let mut replayed = Replayed::default();
        replayed.compare((0, &golden), &answers, &answer, precision, &tokenizer).is_ok()
    }

    #[test]
    fn rounding_of_the_precision_in_use_passes_and_an_edited_prompt_does_not() {
        for precision in PRECISIONS {
            let tolerance = golden_tolerance(precision);
            assert!(passes(0.9 * tolerance, precision) && passes(-0.9 * tolerance, precision));
            assert!(!passes(1.1 * tolerance, precision) && !passes(-1.1 * tolerance, precision));
            assert!(!passes(f32::NAN, precision), "{precision}");
            assert!(!passes(0.2, precision), "{precision}");
        }
        // what was measured of TF32 is no error in TF32, and would nearly be one in f32
        assert!(passes(8e-4, Precision::Tf32));
    }

    /// What a file says whose first texts are others.
    fn of_texts(others: usize, texts: usize, precision: Precision) -> Result<(), LoadError> {
        let mut replayed = Replayed::default();
        for index in 0..texts {
            let got = if index < others { "other" } else { "golden" };
            replayed.note_text(Other { index, got: got.into(), want: "golden".into() }, precision)?;
        }
        replayed.verdict(precision)
    }

    #[test]
    fn texts_are_all_the_same_in_f32_and_most_of_them_in_less() {
        assert!(of_texts(0, 8, Precision::F32).is_ok() && of_texts(1, 8, Precision::F32).is_err());
        for precision in [Precision::Tf32, Precision::Bf16] {
            for (others, texts, passes) in
                [(0, 0, true), (4, 8, true), (5, 8, false), (1, 1, false), (1, 2, true)]
            {
                assert_eq!(of_texts(others, texts, precision).is_ok(), passes, "{others} of {texts}");
            }
            let words = of_texts(5, 8, precision).unwrap_err().to_string();
            assert!(words.contains("5 of 8") && words.contains("--precision f32"), "{words}");
        }
    }
}
