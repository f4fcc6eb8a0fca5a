// The picture of a prompt: a row for each token, a square for each piece.

import { plural, svg } from "./build.js";

// The drawing, for GET /tasks/{task}/picture.
export function draw(picture) {
  const { tokens, pieces, token_importance, piece_importance, piece_mask } = picture;
  const kept = (token) => piece_mask[token].some(Boolean);
  const [left, top, cell, gap, bars] = [34, 16, 18, 3, 120];
  const width = left + pieces * (cell + gap) + 16 + (token_importance ? bars + 44 : 0);
  const height = top + tokens * (cell + gap);
  const most = (xs) => Math.max(...xs.map(Math.abs), Number.MIN_VALUE);
  const pieceMost = piece_importance ? most(piece_importance.flat()) : 1;
  const tokenMost = token_importance ? most(token_importance) : 1;
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${plural(tokens, "token")} of ${pieces} pieces; ${describe(picture)}` });
  drawing.append(svg("text", { x: left, y: 10 }, "pieces of each token"));
  if (token_importance) drawing.append(svg("text", { x: width - bars - 44, y: 10 }, "importance of the token"));
  for (let token = 0; token < tokens; token += 1) {
    const y = top + token * (cell + gap);
    drawing.append(svg("text", { x: left - 8, y: y + 13, "text-anchor": "end" }, String(token + 1)));
    for (let piece = 0; piece < pieces; piece += 1) {
      const x = left + piece * (cell + gap);
      const isKept = piece_mask[token][piece];
      const share = piece_importance && isKept ? Math.sqrt(Math.abs(piece_importance[token][piece]) / pieceMost) : 0.6;
      const words = `token ${token + 1}, piece ${piece + 1}: ${isKept ? "kept" : "pruned"}${piece_importance && isKept ? `, importance ${piece_importance[token][piece].toPrecision(3)}` : ""}`;
      drawing.append(svg("rect", { x: x + 0.5, y: y + 0.5, width: cell - 1, height: cell - 1, rx: 3, class: isKept ? "kept" : "gone", fill: isKept ? colour(share) : undefined }, svg("title", {}, words)));
    }
    if (token_importance) {
      const x = width - bars - 44;
      const length = (bars * Math.abs(token_importance[token])) / tokenMost;
      drawing.append(svg("rect", { x, y: y + 4, width: Math.max(length, 1), height: cell - 8, rx: 2, class: "token", opacity: kept(token) ? 1 : 0.35 }));
      drawing.append(svg("text", { x: x + length + 5, y: y + 13 }, token_importance[token].toPrecision(2)));
    }
  }
  return drawing;
}

// The same in words.
export function describe({ tokens, pieces, piece_mask, piece_importance }) {
  const keptTokens = piece_mask.filter((row) => row.some(Boolean)).length;
  const keptPieces = piece_mask.flat().filter(Boolean).length;
  const share = Math.round((100 * keptPieces) / (tokens * pieces));
  const colours = piece_importance ? " The stronger the colour of a square, the more the loss depends on its piece." : "";
  return `${keptTokens} of ${tokens} tokens and ${keptPieces} of ${tokens * pieces} pieces (${share} %) are kept; empty squares are pruned.${colours}`;
}

const dark = matchMedia("(prefers-color-scheme: dark)");

function colour(share) {
  const lightness = dark.matches ? 26 + 48 * share : 88 - 58 * share;
  return `hsl(206 62% ${lightness.toFixed(0)}%)`;
}
