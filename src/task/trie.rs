//! Labels as a trie of tokens: one decoder pass decides them all.
//!
//! Where label words part, the model chooses among the tokens that continue some label (the end token, where one
//! label's words begin another's). A label's probability is the product of the choices on its way, each a
//! softmax over the tokens that compete there: a distribution over labels, by construction. Most label sets part
//! at the first token, and a single decoder position decides them.

use std::collections::BTreeMap;

/// Why labels cannot be told apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrieError {
    /// Label words that have no token.
    #[error("the words of label {0:?} give no token")]
    Empty(String),
    /// Label words of so many tokens that nobody means them.
    #[error("the words of label {label:?} are {tokens} tokens, allowed are {MAX_POSITIONS}; shorten them")]
    Long {
        /// The label.
        label: String,
        /// Tokens of its words.
        tokens: usize,
    },
    /// Two labels with the same tokens.
    #[error("labels {0:?} and {1:?} have words of the same tokens; give one of them other words")]
    Same(String, String),
    /// Labels that share so many long beginnings that scoring them would take too much memory.
    #[error(
        "telling the labels apart takes {0} decoder positions, allowed are {MAX_POSITIONS}; shorten their words"
    )]
    Positions(usize),
}

/// Decoder positions that a trie may take: attention among them grows with the square. Also the tokens that a label
/// may have, which bounds how deep the trie is before it is known how many positions it takes.
const MAX_POSITIONS: usize = 512;

/// A decoder position of the pass: a token in the context of its ancestors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    token: u32,
    parent: Option<usize>,
}

/// One choice on a label's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The decoder position that decides.
    pub position: usize,
    /// The right token, as an index into the position's [`candidates`](LabelTrie::candidates).
    pub candidate: usize,
}

/// The labels of a task, by their tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelTrie {
    positions: Vec<Position>,
    candidates: Vec<Vec<u32>>,
    decisions: Vec<Vec<Decision>>,
}

/// The trie before it is laid out: for every prefix of a label the tokens that continue it.
#[derive(Default)]
struct Prefix {
    children: BTreeMap<u32, Self>,
}

// === impl LabelTrie ===

impl LabelTrie {
    /// Builds the trie of labels, given as (name, tokens of the words). `start` is the decoder's start token.
    ///
    /// # Errors
    /// If a label has no token or too many, two have the same, or they take too many positions.
    pub fn new(labels: &[(String, Vec<u32>)], start: u32, eos: u32) -> Result<Self, TrieError> {
        let mut root = Prefix::default();
        for (i, (name, tokens)) in labels.iter().enumerate() {
            if tokens.is_empty() {
                return Err(TrieError::Empty(name.clone()));
            }
            if tokens.len() > MAX_POSITIONS {
                return Err(TrieError::Long { label: name.clone(), tokens: tokens.len() });
            }
            if let Some((other, _)) = labels[..i].iter().find(|(_, known)| known == tokens) {
                return Err(TrieError::Same(other.clone(), name.clone()));
            }
            let end = tokens.iter().chain([&eos]);
            end.fold(&mut root, |prefix, &token| prefix.children.entry(token).or_default());
        }
        let mut trie = Self { positions: vec![], candidates: vec![], decisions: vec![] };
        trie.lay_out(&root, start, None);
        if trie.positions.len() > MAX_POSITIONS {
            return Err(TrieError::Positions(trie.positions.len()));
        }
        trie.decisions = labels.iter().map(|(_, tokens)| trie.way(&root, tokens, eos)).collect();
        Ok(trie)
    }

    /// The smallest trie, for a trial pass: the model's first two tokens compete at one position.
    #[must_use]
    pub(crate) fn least() -> Self {
        let decision = |candidate| vec![Decision { position: 0, candidate }];
        Self {
            positions: vec![Position { token: 0, parent: None }],
            candidates: vec![vec![0, 1]],
            decisions: vec![decision(0), decision(1)],
        }
    }

    /// Adds the position of a prefix if a choice is made there or behind it.
    fn lay_out(&mut self, prefix: &Prefix, token: u32, parent: Option<usize>) {
        if !prefix.decides() {
            return;
        }
        let here = self.positions.len();
        self.positions.push(Position { token, parent });
        let tokens = prefix.children.keys().copied();
        self.candidates.push(if prefix.children.len() > 1 { tokens.collect() } else { vec![] });
        for (&token, child) in &prefix.children {
            self.lay_out(child, token, Some(here));
        }
    }

    fn way(&self, root: &Prefix, tokens: &[u32], eos: u32) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let (mut prefix, mut position) = (root, 0);
        for &token in tokens.iter().chain([&eos]) {
            if let Some(candidate) = self.candidates[position].iter().position(|&other| other == token) {
                decisions.push(Decision { position, candidate });
            }
            prefix = &prefix.children[&token];
            if !prefix.decides() {
                break;
            }
            let below = |p: &Position| p.parent == Some(position) && p.token == token;
            position =
                self.positions.iter().position(below).expect("invariant: a deciding prefix is laid out");
        }
        decisions
    }

    /// Number of labels.
    #[must_use]
    pub fn labels(&self) -> usize {
        self.decisions.len()
    }

    /// Tokens that go into the decoder, one per position; the first is the start token.
    pub fn tokens(&self) -> impl ExactSizeIterator<Item = u32> {
        self.positions.iter().map(|position| position.token)
    }

    /// The position before this one on the way from the start; none for the start itself.
    #[must_use]
    pub fn parent(&self, position: usize) -> Option<usize> {
        self.positions[position].parent
    }

    /// Tokens that compete at each position; none where the way is forced.
    #[must_use]
    pub fn candidates(&self) -> &[Vec<u32>] {
        &self.candidates
    }

    /// The choices on a label's way.
    #[must_use]
    pub fn decisions(&self, label: usize) -> &[Decision] {
        &self.decisions[label]
    }

    /// Probability of each label from the logits of the competing tokens: `logits(position, candidate)`.
    pub fn probabilities(&self, logits: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let log_p: Vec<Vec<f64>> = self
            .candidates
            .iter()
            .enumerate()
            .map(|(position, tokens)| {
                log_softmax((0..tokens.len()).map(|candidate| f64::from(logits(position, candidate))))
            })
            .collect();
        let label =
            |way: &Vec<Decision>| way.iter().map(|d| log_p[d.position][d.candidate]).sum::<f64>().exp();
        self.decisions.iter().map(|way| label(way) as f32).collect()
    }
}

impl Prefix {
    /// Whether a choice is made here or behind.
    fn decides(&self) -> bool {
        self.children.len() > 1 || self.children.values().any(Self::decides)
    }
}

fn log_softmax(logits: impl Iterator<Item = f64>) -> Vec<f64> {
    let logits: Vec<f64> = logits.collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = logits.iter().map(|x| (x - largest).exp()).sum::<f64>().ln() + largest;
    logits.into_iter().map(|x| x - total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn trie(labels: &[&[u32]]) -> LabelTrie {
        let labels: Vec<_> = labels.iter().map(|tokens| (format!("{tokens:?}"), tokens.to_vec())).collect();
        LabelTrie::new(&labels, 0, 1).unwrap()
    }

    #[test]
    fn labels_that_part_at_the_first_token_take_one_position() {
        let trie = trie(&[&[7, 8], &[9], &[5, 6, 4]]);
        assert_eq!(trie.tokens().collect::<Vec<_>>(), [0]);
        assert_eq!(trie.candidates(), [vec![5, 7, 9]]);
        assert_eq!(trie.decisions(0), [Decision { position: 0, candidate: 1 }]);
    }

    #[test]
    fn a_label_that_begins_another_ends_with_the_end_token() {
        let trie = trie(&[&[7], &[7, 8, 9], &[7, 8, 5]]);
        assert_eq!(trie.tokens().collect::<Vec<_>>(), [0, 7, 8]);
        assert_eq!(trie.candidates(), [vec![], vec![1, 8], vec![5, 9]]);
        assert_eq!(trie.decisions(0), [Decision { position: 1, candidate: 0 }]);
        assert_eq!([trie.parent(2), trie.parent(1), trie.parent(0)], [Some(1), Some(0), None]);
        let p = trie.probabilities(|_, _| 0.0);
        assert_eq!(p, [0.5, 0.25, 0.25]);
    }

    #[test]
    fn labels_that_take_too_many_positions_are_refused() {
        let labels: Vec<_> = (0..600).flat_map(|i| [vec![i, 700], vec![i, 701]]).collect();
        let labels: Vec<_> = labels.into_iter().map(|tokens| (String::new(), tokens)).collect();
        assert_eq!(LabelTrie::new(&labels, 0, 1), Err(TrieError::Positions(601)));
    }

    /// The trie of such labels is so deep that walking it would overflow a thread's stack.
    #[test]
    fn labels_of_any_length_are_refused_by_an_error() {
        let words = |last| [vec![5; 1_000_000], vec![last]].concat();
        let labels = [("a".to_owned(), words(6)), ("b".to_owned(), words(7))];
        let long = TrieError::Long { label: "a".into(), tokens: 1_000_001 };
        assert_eq!(LabelTrie::new(&labels, 0, 1), Err(long));
    }

    #[test]
    fn labels_that_cannot_be_told_apart_are_named() {
        let twice = [("a".to_owned(), vec![3]), ("b".to_owned(), vec![3])];
        assert_eq!(LabelTrie::new(&twice, 0, 1), Err(TrieError::Same("a".into(), "b".into())));
    }

    proptest! {
        #[test]
        fn probabilities_of_any_labels_sum_to_one(
            labels in prop::collection::btree_set(prop::collection::vec(2u32..6, 1..5), 2..20),
            seed in 0u32..1000,
        ) {
            let labels: Vec<_> = labels.into_iter().map(|tokens| (String::new(), tokens)).collect();
            let trie = LabelTrie::new(&labels, 0, 1).unwrap();
            let noise = |p: usize, c: usize| ((p * 31 + c * 17 + seed as usize) % 13) as f32 - 6.0;
            let total: f32 = trie.probabilities(noise).iter().sum();
            prop_assert!((total - 1.0).abs() < 1e-5);
            // a parent stands before its children, so every way ends at the start
            for position in 1..trie.tokens().len() {
                prop_assert!(trie.parent(position).unwrap() < position);
            }
        }
    }
}
