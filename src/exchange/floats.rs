//! Numbers as other programs store them.

use half::{bf16, f16};

use super::ExchangeError;

/// How a number is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Float {
    F16,
    Bf16,
    F32,
    F64,
}

// === impl Float ===

impl Float {
    /// Bytes of a number.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The numbers in some bytes, rounded to f32; bytes at the end that are no whole number are left out.
    pub(super) fn decode(self, bytes: &[u8], big_endian: bool) -> Vec<f32> {
        let words = bytes.chunks_exact(self.size()).map(|word| {
            let mut low_first = [0; 8];
            low_first[..word.len()].copy_from_slice(word);
            if big_endian {
                low_first[..word.len()].reverse();
            }
            u64::from_le_bytes(low_first)
        });
        // a word holds no more bits than its number has
        let number = |word: u64| match self {
            Self::F16 => f16::from_bits(word as u16).to_f32(),
            Self::Bf16 => bf16::from_bits(word as u16).to_f32(),
            Self::F32 => f32::from_bits(word as u32),
            Self::F64 => f64::from_bits(word) as f32,
        };
        words.map(number).collect()
    }
}

/// Refuses rows of `width` that hold something infinite or not a number.
pub(super) fn check_finite(file: &str, rows: &[f32], width: usize) -> Result<(), ExchangeError> {
    match rows.iter().position(|x| !x.is_finite()) {
        None => Ok(()),
        Some(at) => Err(ExchangeError::Malformed {
            file: file.to_owned(),
            reason: format!(
                "row {}, column {} is {}, no finite f32; train the prompt again, with a lower learning rate",
                at / width,
                at % width,
                rows[at]
            ),
        }),
    }
}
