//! Which of the waiting requests make the next batch.

use super::Options;

/// The same for a packed batch, in which no length costs another: as they came, while the sizes stay within their budgets.
pub(super) fn choose_packed(lengths: &[usize], options: &Options) -> Vec<usize> {
    let ends = lengths.iter().scan(0, |end, length| {
        *end += length;
        Some(*end)
    });
    let fits = |&(i, end): &(usize, usize)| i == 0 || end <= options.max_batch_tokens;
    ends.enumerate().take_while(fits).take(options.max_batch.max(1)).map(|(i, _)| i).collect()
}

/// Which of the waiting requests, given by their lengths in the order in which they came, make the next batch.
///
/// The first is always among them. The others are its neighbours in length, the nearer first, while the padded
/// size and the padding stay within their budgets.
pub(super) fn choose(lengths: &[usize], options: &Options) -> Vec<usize> {
    if lengths.is_empty() {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| (lengths[i], i));
    let oldest = order.iter().position(|&i| i == 0).expect("invariant: every request is in the order");
    let (mut low, mut high) = (oldest, oldest + 1);
    let mut tokens = lengths[0];
    while high - low < options.max_batch.max(1) {
        let shorter = low.checked_sub(1).map(|at| lengths[order[high - 1]] - lengths[order[at]]);
        let longer = order.get(high).map(|&i| lengths[i] - lengths[order[high - 1]]);
        // a shorter request is padded up; a longer one pads the whole batch
        let grow_up = match (shorter, longer) {
            (None, None) => break,
            (Some(below), Some(above)) => above * (high - low) < below,
            (below, _) => below.is_none(),
        };
        let longest = lengths[order[if grow_up { high } else { high - 1 }]];
        let padded = longest * (high - low + 1);
        tokens += lengths[order[if grow_up { high } else { low - 1 }]];
        if padded > options.max_batch_tokens || (padded - tokens) * 100 > padded * options.max_padding {
            break;
        }
        if grow_up { high += 1 } else { low -= 1 }
    }
    order[low..high].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_in_length_ride_together() {
        let options = Options { max_batch_tokens: 100, max_batch: 3, ..Options::default() };
        let mut chosen = choose(&[20, 90, 21, 19, 22], &options);
        chosen.sort_unstable();
        assert_eq!(chosen, [0, 2, 3]);
        assert_eq!(choose(&[500, 20], &options), [0], "a long request goes alone");
        assert_eq!(choose(&[40, 20], &options), [0], "padding is no work to do");
    }

    #[test]
    fn a_packed_batch_is_what_came_first() {
        let options = Options { max_batch_tokens: 100, max_batch: 3, ..Options::default() };
        assert_eq!(choose_packed(&[20, 70, 11, 1], &options), [0, 1], "101 positions are too many");
        assert_eq!(choose_packed(&[20, 70, 10, 0], &options), [0, 1, 2]);
        assert_eq!(choose_packed(&[500, 20], &options), [0], "a long request goes alone");
        assert!(choose_packed(&[], &options).is_empty());
    }

    proptest! {
        #[test]
        fn a_batch_holds_the_oldest_and_stays_within_its_budget(
            lengths in prop::collection::vec(1usize..600, 1..80),
            max_batch in 1usize..20,
            max_batch_tokens in 1usize..5000,
            max_padding in 0usize..100,
        ) {
            let options = Options { max_queue: 0, max_batch, max_batch_tokens, max_padding };
            let chosen = choose(&lengths, &options);
            prop_assert!(chosen.contains(&0));
            prop_assert!(chosen.len() <= max_batch);
            let longest = chosen.iter().map(|&i| lengths[i]).max().unwrap();
            let padded = longest * chosen.len();
            prop_assert!(chosen.len() == 1 || padded <= max_batch_tokens);
            let padding = padded - chosen.iter().map(|&i| lengths[i]).sum::<usize>();
            prop_assert!(padding * 100 <= padded * max_padding);
        }
    }
}
