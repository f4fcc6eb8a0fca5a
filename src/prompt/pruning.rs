//! Choosing what to keep, by importance (XPrompt, section 3.2).

use super::Prompt;

/// How many of `total` are pruned at `ratio`: the floor, and never all.
fn pruned(total: usize, ratio: f64) -> usize {
    // a ratio such as 0.7 of 10 is 7, although 0.7 * 10.0 is a little less
    ((total as f64 * ratio + 1e-9) as usize).min(total.saturating_sub(1))
}

/// Positions of the `keep` largest scores; of equal ones the first.
fn top(scores: &[f32], keep: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order.truncate(keep);
    order
}

/// Token-level pruning: the piece mask that removes the `ratio` least important of the prompt's tokens.
///
/// `importance` is `[tokens]` over the original tokens. Larger ratios keep subsets of what smaller ones keep.
#[must_use]
pub fn keep_top_tokens(prompt: &Prompt, importance: &[f32], ratio: f64) -> Vec<bool> {
    let kept: Vec<usize> = prompt.kept_tokens().collect();
    let scores: Vec<f32> = kept.iter().map(|&token| importance[token]).collect();
    let mut mask = vec![false; prompt.piece_mask().len()];
    for winner in top(&scores, kept.len() - pruned(kept.len(), ratio)) {
        let token = kept[winner];
        mask[token * prompt.pieces()..(token + 1) * prompt.pieces()].fill(true);
    }
    mask
}

/// Piece-level pruning: the piece mask that removes the `ratio` least important pieces of every token.
///
/// `importance` is `[tokens, pieces]`. Pieces are ranked inside their token, so each token that survived keeps
/// some (the paper leaves open whether ranks are global; its descendant E2VPT ranks inside the token).
#[must_use]
pub fn keep_top_pieces(prompt: &Prompt, importance: &[f32], ratio: f64) -> Vec<bool> {
    let k = prompt.pieces();
    let mut mask = vec![false; prompt.piece_mask().len()];
    for token in prompt.kept_tokens() {
        let kept: Vec<usize> = (token * k..(token + 1) * k).filter(|&i| prompt.piece_mask()[i]).collect();
        let scores: Vec<f32> = kept.iter().map(|&i| importance[i]).collect();
        for winner in top(&scores, kept.len() - pruned(kept.len(), ratio)) {
            mask[kept[winner]] = true;
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_least_important_go_first() {
        let prompt = Prompt::dense(4, 2, vec![1.0; 20]);
        let mask = keep_top_tokens(&prompt, &[0.5, 0.1, 0.9, 0.2, 0.3], 0.4);
        let pruned = prompt.masked(&mask);
        assert_eq!(pruned.token_mask(), [true, false, true, false, true]);
        let importance: Vec<f32> = (0..10).map(|i| if i % 2 == 0 { 1.0 } else { 0.0 }).collect();
        let pieces = pruned.masked(&keep_top_pieces(&pruned, &importance, 0.5));
        let want = [true, false, false, false, true, false, false, false, true, false];
        assert_eq!(pieces.piece_mask(), want);
    }

    proptest! {
        #[test]
        fn pruning_keeps_something_and_larger_ratios_keep_subsets(
            importance in prop::collection::vec(-1.0f32..1.0, 20 * 16),
            low in 0.0f64..1.0,
            high in 0.0f64..=1.0,
        ) {
            let (low, high) = if low < high { (low, high) } else { (high, low) };
            let prompt = Prompt::dense(32, 16, vec![1.0; 20 * 32]);
            let tokens = &importance[..20];
            let [more, less] = [low, high].map(|ratio| keep_top_tokens(&prompt, tokens, ratio));
            prop_assert!(less.contains(&true));
            prop_assert!(less.iter().zip(&more).all(|(less, more)| more | !less));
            let [more, less] = [low, high].map(|ratio| keep_top_pieces(&prompt, &importance, ratio));
            prop_assert!(less.chunks(16).all(|token| token.contains(&true)));
            prop_assert!(less.iter().zip(&more).all(|(less, more)| more | !less));
        }

        #[test]
        fn a_ratio_prunes_its_floor(tokens in 1usize..100, tenths in 0usize..=10) {
            let prompt = Prompt::dense(2, 1, vec![0.0; tokens * 2]);
            let mask = keep_top_tokens(&prompt, &vec![0.0; tokens], tenths as f64 / 10.0);
            let kept = mask.iter().filter(|&&kept| kept).count();
            prop_assert_eq!(kept, (tokens - tokens * tenths / 10).max(1));
        }
    }
}
