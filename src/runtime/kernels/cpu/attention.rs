//! Attention, a head of an example at a time.

use super::Tensor;

/// Queries, keys and values of a head of an example, and what is added to its scores.
struct Head<'a> {
    qkv: &'a Tensor,
    position: &'a [f32],
    hidden: Option<&'a [f32]>,
    heads: usize,
    length: usize,
    /// Which of all heads of all examples.
    which: usize,
}

// === impl Head ===

impl<'a> Head<'a> {
    fn all(qkv: &'a Tensor, position: &'a Tensor, hidden: Option<&'a Tensor>) -> Vec<Self> {
        let size = |axis: usize| position.shape[axis].unsigned_abs() as usize;
        let (heads, length) = (size(1), size(2));
        let batch = qkv.x.len() / qkv.width() / length.max(1);
        let head = |which: usize| {
            let own = if size(0) == batch { which } else { which % heads };
            let hidden = hidden.map(|hidden| &hidden.x[which / heads * length..][..length]);
            let position = &position.x[own * length * length..][..length * length];
            Self { qkv, position, hidden, heads, length, which }
        };
        (0..batch * heads).map(head).collect()
    }

    fn d(&self) -> usize {
        self.qkv.width() / 3 / self.heads
    }

    /// Where a position's queries (0), keys (1) or values (2) begin.
    fn at(&self, part: usize, position: usize) -> usize {
        let (example, head) = (self.which / self.heads, self.which % self.heads);
        (example * self.length + position) * self.qkv.width() + (part * self.heads + head) * self.d()
    }

    /// Where a position's results begin.
    fn at_result(&self, position: usize) -> usize {
        let (example, head) = (self.which / self.heads, self.which % self.heads);
        ((example * self.length + position) * self.heads + head) * self.d()
    }

    fn part(&self, part: usize, position: usize) -> &'a [f32] {
        &self.qkv.x[self.at(part, position)..][..self.d()]
    }

    /// The logarithm of a query's sum of exponentials, and its probability of each key.
    fn probabilities(&self, query: usize) -> (f32, Vec<f32>) {
        let score = |key: usize| {
            dot(self.part(0, query), self.part(1, key))
                + self.position[query * self.length + key]
                + self.hidden.map_or(0.0, |hidden| hidden[key])
        };
        let scores: Vec<f32> = (0..self.length).map(score).collect();
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let log_sum = highest + scores.iter().map(|score| (score - highest).exp()).sum::<f32>().ln();
        (log_sum, scores.into_iter().map(|score| (score - log_sum).exp()).collect())
    }
}

pub(super) fn forward(qkv: &Tensor, position: &Tensor, hidden: Option<&Tensor>) -> Vec<Tensor> {
    let all = Head::all(qkv, position, hidden);
    let mut y = vec![0.0; qkv.x.len() / 3];
    let mut log_sums = Vec::new();
    for head in &all {
        for query in 0..head.length {
            let (log_sum, p) = head.probabilities(query);
            log_sums.push(log_sum);
            let y = &mut y[head.at_result(query)..][..head.d()];
            p.iter().enumerate().for_each(|(key, &p)| add(y, p, head.part(2, key)));
        }
    }
    let shape = vec![qkv.shape[0], qkv.shape[1] / 3];
    vec![Tensor { x: y, shape }, Tensor { x: log_sums, shape: statistics(qkv, position) }]
}

/// With p the probabilities of a query and delta = sum(dy * y): ds = p (dy v' - delta), dq = ds k, dk = ds' q, dv = p' dy.
pub(super) fn gradient(
    [qkv, position]: [&Tensor; 2],
    hidden: Option<&Tensor>,
    y: &Tensor,
    dy: &Tensor,
) -> Vec<Tensor> {
    let mut d_qkv = vec![0.0; qkv.x.len()];
    let mut deltas = Vec::new();
    for head in Head::all(qkv, position, hidden) {
        for query in 0..head.length {
            let result = head.at_result(query)..head.at_result(query) + head.d();
            let (y, dy) = (&y.x[result.clone()], &dy.x[result]);
            let delta = dot(y, dy);
            deltas.push(delta);
            for (key, p) in head.probabilities(query).1.into_iter().enumerate() {
                let ds = p * (dot(dy, head.part(2, key)) - delta);
                let mut add = |part, position, factor, x| {
                    add(&mut d_qkv[head.at(part, position)..][..head.d()], factor, x);
                };
                add(0, query, ds, head.part(1, key));
                add(1, key, ds, head.part(0, query));
                add(2, key, p, dy);
            }
        }
    }
    vec![qkv.like(d_qkv), Tensor { x: deltas, shape: statistics(qkv, position) }]
}

/// `[batch, heads, length]`.
fn statistics(qkv: &Tensor, position: &Tensor) -> Vec<i64> {
    let [heads, length] = [position.shape[1], position.shape[2]];
    vec![qkv.shape[0] / length.max(1), heads, length]
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f32], factor: f32, x: &[f32]) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * x);
}
