//! Shapes: fixed and named dimensions, and the rules of broadcasting.

/// One dimension of a shape.
///
/// A named dimension is known only when the graph runs (or when a session fixes it); equal names mean
/// equal sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A size known while building.
    Fixed(usize),
    /// A size that an input brings.
    Named(&'static str),
    /// The product of two named sizes, as flattening makes it.
    Product(&'static str, &'static str),
    /// A multiple of a named size.
    Multiple(usize, &'static str),
    /// The sum of two named sizes, as concatenation makes it.
    Sum(&'static str, &'static str),
}

impl From<usize> for Dim {
    fn from(size: usize) -> Self {
        Self::Fixed(size)
    }
}

impl From<&'static str> for Dim {
    fn from(name: &'static str) -> Self {
        Self::Named(name)
    }
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(size) => write!(f, "{size}"),
            Self::Named(name) => f.write_str(name),
            Self::Product(a, b) => write!(f, "{a}*{b}"),
            Self::Multiple(n, a) => write!(f, "{n}*{a}"),
            Self::Sum(a, b) => write!(f, "{a}+{b}"),
        }
    }
}

/// The shape of an element-wise result of `a` and `b`, after numpy's rules.
///
/// # Panics
/// If the shapes do not broadcast: a mistake in the code that builds the graph.
pub(super) fn broadcast(a: &[Dim], b: &[Dim]) -> Vec<Dim> {
    let rank = a.len().max(b.len());
    let at = |shape: &[Dim], i: usize| match (i + shape.len()).checked_sub(rank) {
        Some(axis) => shape[axis],
        None => Dim::Fixed(1),
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => x,
            (Dim::Fixed(1), y) => y,
            (x, Dim::Fixed(1)) => x,
            (x, y) => panic!("shapes {a:?} and {b:?} do not broadcast: {x} against {y}"),
        })
        .collect()
}

/// The axes of `from` over which a gradient has to be summed to take the shape `to`, where `to`
/// broadcasts to `from` and has the same rank.
pub(super) fn summed_axes(from: &[Dim], to: &[Dim]) -> Vec<usize> {
    assert_eq!(from.len(), to.len(), "a gradient keeps the rank of its value");
    (0..from.len()).filter(|&axis| to[axis] == Dim::Fixed(1) && from[axis] != Dim::Fixed(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasting_fills_leading_axes_and_stretches_ones() {
        let a = [Dim::Named("batch"), Dim::Fixed(1), Dim::Fixed(8)];
        let b = [Dim::Named("length"), Dim::Fixed(1)];
        assert_eq!(broadcast(&a, &b), [Dim::Named("batch"), Dim::Named("length"), Dim::Fixed(8)]);
    }

    #[test]
    #[should_panic(expected = "do not broadcast")]
    fn unequal_sizes_do_not_broadcast() {
        broadcast(&[Dim::Fixed(2)], &[Dim::Fixed(3)]);
    }
}
