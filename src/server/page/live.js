// Readiness, throughput and latency, from the probes and metrics of the server.

import { call, takesChanges } from "./api.js";
import { at, millis } from "./build.js";

let before = null;
const rates = [];

export async function watch() {
  if (document.hidden) return;
  try {
    const response = await fetch("/health/ready");
    setHealth(response.ok ? "ready" : "waiting", response.ok ? "ready" : "not ready");
  } catch {
    setHealth("gone", "the server does not answer");
    return;
  }
  if (!takesChanges) return;
  try {
    const now = readMetrics((await call("/metrics", { quiet: true })).body);
    if (before !== null) showLive(before, now);
    before = now;
  } catch {
    at("live").hidden = true;
    before = null;
  }
}

function setHealth(kind, text) {
  at("health").className = kind;
  at("health-text").textContent = text;
}

// Counts of answered texts, and the time histogram of the calls that answer.
function readMetrics(text) {
  const now = { at: performance.now(), texts: 0, buckets: new Map() };
  for (const line of text.split("\n")) {
    if (line.startsWith("xprompt_predictions_total{")) now.texts += Number(line.slice(line.lastIndexOf(" ") + 1));
    const match = line.match(/^xprompt_http_request_duration_seconds_bucket\{(.*)\} (\S+)$/);
    if (match && /predict|completions|infer/.test(match[1])) {
      const edge = match[1].match(/le="([^"]+)"/)?.[1];
      now.buckets.set(edge, (now.buckets.get(edge) ?? 0) + Number(match[2]));
    }
  }
  return now;
}

function showLive(then, now) {
  const rate = Math.max(0, now.texts - then.texts) / ((now.at - then.at) / 1000);
  rates.push(rate);
  if (rates.length > 60) rates.shift();
  at("live").hidden = false;
  at("live-rate").textContent = rate < 10 ? rate.toFixed(1) : rate.toFixed(0);
  const counts = [...now.buckets].map(([edge, n]) => [edge === "+Inf" ? Infinity : Number(edge), n - (then.buckets.get(edge) ?? 0)]).sort((a, b) => a[0] - b[0]);
  at("live-p50").textContent = millis(quantile(counts, 0.5));
  at("live-p99").textContent = millis(quantile(counts, 0.99));
  const most = Math.max(...rates, 1);
  const points = rates.map((r, i) => `${(120 * (i + 60 - rates.length)) / 59},${(26 - (24 * r) / most).toFixed(1)}`);
  at("live-line").firstElementChild.setAttribute("points", points.join(" "));
}

// From cumulative counts by upper edge, interpolated within the bucket, as Prometheus does.
function quantile(counts, q) {
  const total = counts.at(-1)?.[1] ?? 0;
  if (total === 0) return undefined;
  let [low, below] = [0, 0];
  for (const [edge, count] of counts) {
    if (count >= q * total) return edge === Infinity ? low : low + ((edge - low) * (q * total - below)) / (count - below || 1);
    [low, below] = [edge, count];
  }
  return low;
}
