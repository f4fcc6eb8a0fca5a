//! A soft prompt with its masks.

use serde::{Deserialize, Serialize};

/// Soft prompt rows and what of them survived pruning.
///
/// Of `tokens` original rows those whose mask is set remain, in order, as dense rows of `d_model`; each row is
/// `pieces` equal, contiguous pieces, and a pruned piece is zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    d_model: usize,
    pieces: usize,
    token_mask: Vec<bool>,
    piece_mask: Vec<bool>,
    rows: Vec<f32>,
}

// === impl Prompt ===

impl Prompt {
    /// An unpruned prompt from its rows `[tokens, d_model]`.
    ///
    /// # Panics
    /// If the rows are not whole, or `pieces` does not divide `d_model`.
    #[must_use]
    pub fn dense(d_model: usize, pieces: usize, rows: Vec<f32>) -> Self {
        assert!(pieces > 0 && d_model.is_multiple_of(pieces), "{pieces} pieces divide {d_model}");
        assert!(rows.len().is_multiple_of(d_model), "whole rows");
        let tokens = rows.len() / d_model;
        Self {
            d_model,
            pieces,
            token_mask: vec![true; tokens],
            piece_mask: vec![true; tokens * pieces],
            rows,
        }
    }

    /// The prompt with only the marked pieces left; a token without a piece is gone.
    ///
    /// `piece_mask` is `[tokens, pieces]` over the original tokens. A piece that was gone before stays gone.
    ///
    /// # Panics
    /// If the mask is not of this prompt's size.
    #[must_use]
    pub fn masked(&self, piece_mask: &[bool]) -> Self {
        assert_eq!(piece_mask.len(), self.piece_mask.len(), "a mask over all original pieces");
        let piece_mask: Vec<bool> =
            self.piece_mask.iter().zip(piece_mask).map(|(&had, &keep)| had && keep).collect();
        let token_mask: Vec<bool> =
            piece_mask.chunks(self.pieces).map(|pieces| pieces.contains(&true)).collect();
        let width = self.piece_width();
        let mut rows = Vec::new();
        for (token, row) in self.kept_tokens().zip(self.rows.chunks(self.d_model)) {
            if token_mask[token] {
                let mask = &piece_mask[token * self.pieces..(token + 1) * self.pieces];
                rows.extend(
                    row.chunks(width)
                        .zip(mask)
                        .flat_map(|(piece, &keep)| piece.iter().map(move |&x| if keep { x } else { 0.0 })),
                );
            }
        }
        Self { d_model: self.d_model, pieces: self.pieces, token_mask, piece_mask, rows }
    }

    /// The same masks over new values `[kept tokens, d_model]`; pruned pieces are set to zero.
    ///
    /// # Panics
    /// If there are more or fewer values.
    #[must_use]
    pub fn with_rows(&self, rows: &[f32]) -> Self {
        assert_eq!(rows.len(), self.rows.len(), "as many values as rows survive");
        let mut rows = rows.to_vec();
        for (x, keep) in rows.iter_mut().zip(self.value_mask()) {
            if !keep {
                *x = 0.0;
            }
        }
        Self { rows, ..self.clone() }
    }

    /// Width of a row.
    #[must_use]
    pub fn d_model(&self) -> usize {
        self.d_model
    }

    /// Pieces a token is made of.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.pieces
    }

    /// Values in a piece.
    #[must_use]
    pub fn piece_width(&self) -> usize {
        self.d_model / self.pieces
    }

    /// Original number of tokens.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.token_mask.len()
    }

    /// Which of the original tokens remain.
    #[must_use]
    pub fn token_mask(&self) -> &[bool] {
        &self.token_mask
    }

    /// Which of the original pieces remain, `[tokens, pieces]`.
    #[must_use]
    pub fn piece_mask(&self) -> &[bool] {
        &self.piece_mask
    }

    /// The surviving rows, `[kept tokens, d_model]`, zero where a piece is pruned.
    #[must_use]
    pub fn rows(&self) -> &[f32] {
        &self.rows
    }

    /// Original positions of the tokens that remain.
    pub fn kept_tokens(&self) -> impl Iterator<Item = usize> {
        self.token_mask.iter().enumerate().filter(|&(_, &kept)| kept).map(|(token, _)| token)
    }

    /// Number of tokens that remain: what the prompt adds to the length of an input.
    #[must_use]
    pub fn kept_token_count(&self) -> usize {
        self.rows.len() / self.d_model
    }

    /// Number of pieces that remain.
    #[must_use]
    pub fn kept_piece_count(&self) -> usize {
        self.piece_mask.iter().filter(|&&kept| kept).count()
    }

    /// Number of values that remain: the task's trained parameters.
    #[must_use]
    pub fn parameters(&self) -> usize {
        self.kept_piece_count() * self.piece_width()
    }

    /// For each value of [`rows`](Self::rows), whether its piece remains.
    pub fn value_mask(&self) -> impl Iterator<Item = bool> {
        let width = self.piece_width();
        self.kept_tokens().flat_map(move |token| {
            self.piece_mask[token * self.pieces..(token + 1) * self.pieces]
                .iter()
                .flat_map(move |&kept| std::iter::repeat_n(kept, width))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_without_a_piece_is_gone_and_a_pruned_piece_is_zero() {
        let prompt = Prompt::dense(4, 2, (1..=12).map(|x| x as f32).collect());
        let pruned = prompt.masked(&[true, false, false, false, true, true]);
        assert_eq!(pruned.token_mask(), [true, false, true]);
        assert_eq!(pruned.rows(), [1.0, 2.0, 0.0, 0.0, 9.0, 10.0, 11.0, 12.0]);
        assert_eq!((pruned.kept_token_count(), pruned.kept_piece_count(), pruned.parameters()), (2, 3, 6));
        let back = pruned.masked(&[true; 6]);
        assert_eq!(back, pruned, "what is gone stays gone");
        assert_eq!(pruned.with_rows(&[5.0; 8]).rows(), [5.0, 5.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0]);
    }
}
