//! What of the prompt counts and what is left: importance of tokens above a map of their pieces, seed by seed.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::number;
use super::page::{Figure, Section, Table, figures};
use super::svg::{Axis, Plot, Scale, Stroke, WIDTH, picture, px, sample, text_width};
use super::view::View;
use crate::summary::SeedSummary;

/// Shades of importance in the map, from least to most.
const SHADES: usize = 4;

/// Tokens from which on a chart takes the whole width.
const MANY: usize = 65;

const WHOLE_WIDTH: f64 = 1000.0;
const WIDEST_TOKEN: f64 = 48.0;
const TOP: f64 = 26.0;
const BARS: f64 = 96.0;
const GAP: f64 = 26.0;
const MAP: f64 = 150.0;

/// The section; none if no importance is known.
pub(super) fn section(view: &View<'_>) -> Option<Section> {
    let seeds: Vec<Anatomy<'_>> = view.summary.seeds.iter().filter_map(Anatomy::of).collect();
    if seeds.is_empty() {
        return None;
    }
    let charts: Vec<Figure> = seeds.iter().map(Anatomy::figure).chain(by_rank(&seeds)).collect();
    Some(Section {
        id: "anatomy",
        title: "Tokens and pieces",
        body: html! {
            p.note {
                "Above: importance of each token of the tuned prompt, the mean size of the loss's derivative by the "
                "token's mask. Below: the pieces that XPrompt keeps of each token, darker for more important ones; an "
                "empty column is a pruned token."
            }
            ul.legend {
                li { span.box.kept {} " Token kept" }
                li { span.box.gone {} " Token pruned" }
                li {
                    @for shade in 0..SHADES { span class={ "box shade" (shade) } {} }
                    " Piece kept: less to more important"
                }
                li { span.box.hole {} " Piece pruned" }
            }
            (figures(&charts))
        },
    })
}

/// How unevenly importance is spread: the share of all of it that each token has, the most important first.
///
/// None if no seed has a second token.
fn by_rank(seeds: &[Anatomy<'_>]) -> Option<Figure> {
    let title = "Importance by rank".to_owned();
    let shares: Vec<Vec<f64>> = seeds.iter().map(Anatomy::shares).collect();
    let most = shares.iter().map(Vec::len).max().filter(|most| *most > 1)?;
    let x = Axis {
        scale: Scale::from_to(1.0, most as f64, 5).whole(),
        title: "Token, by falling importance".into(),
    };
    let values = shares.iter().flatten().copied().chain([0.0]);
    let y = Axis {
        scale: Scale::around(values, 1.0, (0.0, 100.0), 5),
        title: "Share of all importance, %".into(),
    };
    let mut plot = Plot::new(x, y);
    for shares in &shares {
        let points: Vec<_> = shares.iter().enumerate().map(|(i, share)| ((i + 1) as f64, *share)).collect();
        plot.line(Stroke::Thin, "xprompt", &points);
    }
    let row = |rank: usize| {
        let share =
            |shares: &Vec<f64>| shares.get(rank).map_or("–".into(), |share| number::decimal(*share, 1));
        [(rank + 1).to_string()].into_iter().chain(shares.iter().map(share)).collect()
    };
    let head =
        ["Rank".to_owned()].into_iter().chain(seeds.iter().map(|seed| format!("Seed {}, %", seed.seed)));
    let data = Table::new(head, (0..most).map(row));
    let legend = vec![(sample(Some(Stroke::Solid), None, "xprompt"), "A seed".to_owned())];
    Some(Figure { chart: plot.render(&title), legend, data, title, wide: false })
}

/// A seed's importance and masks, of sizes that fit each other.
struct Anatomy<'a> {
    seed: u64,
    tokens: &'a [f32],
    /// Pieces of a token; 0 if there is no map.
    pieces: usize,
    found: &'a SeedSummary,
    /// Importance of pieces that divides the shades.
    thresholds: Vec<f32>,
}

// === impl Anatomy ===

impl<'a> Anatomy<'a> {
    fn of(found: &'a SeedSummary) -> Option<Self> {
        let tokens = found.token_importance.as_slice();
        if tokens.is_empty() {
            return None;
        }
        let whole = found.piece_mask.len().is_multiple_of(tokens.len());
        let pieces = if whole { found.piece_mask.len() / tokens.len() } else { 0 };
        let kept = found.piece_mask.iter().zip(&found.piece_importance).filter(|(kept, _)| **kept);
        let mut scores: Vec<f32> = kept.map(|(_, score)| *score).collect();
        scores.sort_by(f32::total_cmp);
        let thresholds = (1..SHADES).filter_map(|shade| scores.get(shade * scores.len() / SHADES).copied());
        Some(Self { seed: found.seed, tokens, pieces, thresholds: thresholds.collect(), found })
    }

    /// The highest importance of a token.
    fn most(&self) -> f32 {
        self.tokens.iter().copied().filter(|score| score.is_finite()).fold(0.0, f32::max)
    }

    /// Each token's share of all importance in percent, falling.
    fn shares(&self) -> Vec<f64> {
        let mut shares: Vec<f64> = self.tokens.iter().map(|score| f64::from(score.max(0.0))).collect();
        let all: f64 = shares.iter().sum();
        shares.iter_mut().for_each(|share| *share *= 100.0 / all.max(f64::MIN_POSITIVE));
        shares.sort_by(|a, b| b.total_cmp(a));
        shares
    }

    fn is_kept(&self, token: usize) -> bool {
        self.found.token_mask.get(token).copied().unwrap_or(true)
    }

    /// The shade of a piece; none if it was pruned.
    fn shade(&self, token: usize, piece: usize) -> Option<usize> {
        let i = token * self.pieces + piece;
        if !self.is_kept(token) || !self.found.piece_mask[i] {
            return None;
        }
        let Some(score) = self.found.piece_importance.get(i) else {
            return Some(SHADES - 1);
        };
        Some(self.thresholds.iter().filter(|threshold| score >= threshold).count())
    }

    fn kept_pieces(&self, token: usize) -> Vec<usize> {
        (0..self.pieces).filter(|piece| self.shade(token, *piece).is_some()).collect()
    }

    fn figure(&self) -> Figure {
        let kept = (0..self.tokens.len()).filter(|token| self.is_kept(*token)).count();
        let pieces: usize = (0..self.tokens.len()).map(|token| self.kept_pieces(token).len()).sum();
        let mut title = format!("Seed {}: {kept} of {} tokens", self.seed, self.tokens.len());
        if self.pieces > 0 {
            let _ = write!(title, ", {pieces} of {} pieces", self.found.piece_mask.len());
        }
        let wide = self.tokens.len() >= MANY;
        Figure { chart: self.chart(&title), legend: Vec::new(), data: self.data(), title, wide }
    }

    fn chart(&self, name: &str) -> Markup {
        let count = self.tokens.len();
        let most = self.most();
        let scale = Scale::around([0.0, f64::from(most)], f64::from(most) * 1e-3, (0.0, f64::MAX), 3);
        let ticks = scale.ticks();
        let left = ticks.iter().map(|(_, label)| text_width(label)).fold(34.0, f64::max) + 12.0;
        let right = if count >= MANY { WHOLE_WIDTH } else { WIDTH };
        let column = ((right - left) / count as f64).min(WIDEST_TOKEN);
        let x = |token: usize| left + token as f64 * column;
        let (base, map) = (TOP + BARS, TOP + BARS + GAP);
        let height = if self.pieces > 0 { map + MAP + 4.0 } else { map };
        let every =
            [1, 2, 5, 10, 20, 50].into_iter().find(|every| *every as f64 * column >= 20.0).unwrap_or(100);
        let content = html! {
            text.axis x="0" y="12" { "Importance" }
            @for (value, label) in &ticks {
                @let y = base - BARS * scale.at(*value);
                path.grid d={ "M" (px(left)) " " (px(y)) "H" (px(right)) } {}
                text.tick.end x=(px(left - 7.0)) y=(px(y + 4.0)) { (label) }
            }
            @for kept in [true, false] {
                path class=(if kept { "kept" } else { "gone" }) d=(self.bars(kept, &scale, &x)) {}
            }
            @for token in (0..count).filter(|token| (token + 1) % every == 0) {
                text.tick.middle x=(px(x(token) + column / 2.0)) y=(px(base + 17.0)) { (token + 1) }
            }
            @if self.pieces > 0 {
                text.tick.end x=(px(left - 7.0)) y=(px(map + 10.0)) { "1" }
                text.tick.end x=(px(left - 7.0)) y=(px(map + MAP / 2.0 + 4.0)) { "Piece" }
                text.tick.end x=(px(left - 7.0)) y=(px(map + MAP)) { (self.pieces) }
                (self.map(map, column, &x))
            }
            g.columns stroke-width=(px(column)) {
                @for token in 0..count {
                    path d={ "M" (px(x(token) + column / 2.0)) " " (px(TOP)) "V" (px(height)) } {
                        title { (self.describe(token)) }
                    }
                }
            }
        };
        picture(name, (right, height), &content)
    }

    fn bars(&self, kept: bool, scale: &Scale, x: &impl Fn(usize) -> f64) -> String {
        let mut d = String::new();
        for (token, score) in self.tokens.iter().enumerate().filter(|(token, _)| self.is_kept(*token) == kept)
        {
            let height = BARS * scale.at(f64::from(score.max(0.0))).clamp(0.0, 1.0);
            let (from, to) = (x(token), x(token + 1));
            let gap = gap(to - from);
            let (left, width) = (px(from + gap / 2.0), px(to - from - gap));
            let _ = write!(d, "M{left} {}v{}h{width}v{}z", px(TOP + BARS), px(-height), px(height));
        }
        d
    }

    /// One path a shade, and one for the holes: pieces that were pruned of tokens that are left.
    fn map(&self, top: f64, column: f64, x: &impl Fn(usize) -> f64) -> Markup {
        let row = MAP / self.pieces as f64;
        let mut shades = vec![String::new(); SHADES];
        let mut holes = String::new();
        for token in (0..self.tokens.len()).filter(|token| self.is_kept(*token)) {
            for piece in 0..self.pieces {
                let d = self.shade(token, piece).map_or(&mut holes, |shade| &mut shades[shade]);
                let y = top + piece as f64 * row + gap(row) / 2.0;
                let _ = write!(d, "M{} {}v{}", px(x(token) + column / 2.0), px(y), px(row - gap(row)));
            }
        }
        html! {
            g.map stroke-width=(px(column - gap(column))) {
                path.hole d=(holes) {}
                @for (shade, d) in shades.iter().enumerate() { path class={ "shade" (shade) } d=(d) {} }
            }
        }
    }

    fn describe(&self, token: usize) -> String {
        let score = number::significant(f64::from(self.tokens[token]));
        let mut text = format!("Token {}: importance {score}", token + 1);
        let _ = match (self.is_kept(token), self.pieces) {
            (false, _) => write!(text, ", pruned"),
            (true, 0) => write!(text, ", kept"),
            (true, pieces) => write!(text, ", {} of {pieces} pieces kept", self.kept_pieces(token).len()),
        };
        text
    }

    fn data(&self) -> Table {
        let decimals = number::decimals_of(f64::from(self.most()));
        let row = |token: usize| {
            let kept = self.kept_pieces(token);
            vec![
                (token + 1).to_string(),
                number::decimal(f64::from(self.tokens[token]), decimals),
                if self.is_kept(token) { "kept" } else { "pruned" }.to_owned(),
                kept.len().to_string(),
                ranges(&kept),
            ]
        };
        let head = ["Token", "Importance", "", "Pieces kept", "Which"];
        Table::new(head, (0..self.tokens.len()).map(row))
    }
}

/// Space between cells of a size.
fn gap(size: f64) -> f64 {
    (size * 0.2).min(3.0)
}

/// Ascending positions as people count them, neighbours joined: `1–3, 7`.
fn ranges(positions: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &position in positions {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == position => *last = position,
            _ => parts.push((position, position)),
        }
    }
    let shown = |(first, last): (usize, usize)| match last - first {
        0 => format!("{}", first + 1),
        1 => format!("{}, {}", first + 1, last + 1),
        _ => format!("{}–{}", first + 1, last + 1),
    };
    parts.into_iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn neighbouring_pieces_are_joined() {
        assert_eq!(ranges(&[0, 1, 2, 4, 6, 7]), "1–3, 5, 7, 8");
        assert_eq!(ranges(&[]), "");
    }
}
