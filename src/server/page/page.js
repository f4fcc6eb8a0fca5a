// The page's state is the address (#/tasks/NAME) and what the API says; nothing is kept besides the API key.

import { call, path, send, takesChanges } from "./api.js";
import { at, bytes, el, percent, plural, time } from "./build.js";
import { watch } from "./live.js";
import { describe, draw } from "./picture.js";
import { openUpload, stem, upload } from "./upload.js";

// --- the list of tasks ---

let tasks = [];
let trouble = null; // why there is no list

async function loadTasks({ quiet } = {}) {
  const all = [];
  let next = "/tasks?limit=500";
  let refused = [];
  while (next) {
    const { body } = await call(next, { quiet });
    all.push(...body.tasks);
    refused = body.refused_files ?? refused;
    next = body.next_cursor ? `/tasks?limit=500&cursor=${encodeURIComponent(body.next_cursor)}` : null;
  }
  tasks = all;
  trouble = null;
  showTasks(refused);
}

const SHOWN = 200;

function showTasks(refused = []) {
  const wanted = at("filter").value.trim().toLowerCase();
  const found = tasks.filter((task) => task.task.toLowerCase().includes(wanted));
  const items = found.slice(0, SHOWN).map((task) =>
    el("li", {}, el("a", { href: `#${path(task.task)}`, class: task.load_error ? "bad" : undefined, "aria-current": task.task === current() ? "page" : undefined },
      el("strong", {}, task.task), el("small", {}, summary(task)))));
  at("list").replaceChildren(...items);
  const notes = [];
  if (trouble) notes.push(trouble);
  else if (tasks.length === 0) notes.push(takesChanges ? "No tasks yet: upload a prompt file." : "No tasks yet.");
  else if (found.length === 0) notes.push("No task has that in its name.");
  if (found.length > SHOWN) notes.push(`The first ${SHOWN} of ${found.length}; type to find others.`);
  if (refused.length > 0) notes.push(`${plural(refused.length, "file")} cannot be a task: ${refused.map((r) => r.file).join(", ")}.`);
  at("list-note").textContent = notes.join(" ");
}

function summary(task) {
  if (!task.prompt) return task.load_error?.reason ?? "not loaded";
  const { tokens, pieces } = task.prompt;
  const kind = task.labels ? plural(task.labels.length, "label") : "free text";
  const share = Math.round((100 * pieces.kept) / pieces.of);
  return `${kind} · ${tokens.kept} of ${tokens.of} tokens, ${share} % of pieces`;
}

// --- one task ---

const current = () => {
  const match = location.hash.match(/^#\/tasks\/(.+)$/);
  return match ? decodeURIComponent(match[1]) : null;
};

let shown = null; // the task on the page, as GET /tasks/{task} gave it
let active = null; // entity tag of its active version

async function showTask() {
  const name = current();
  at("welcome").hidden = name !== null;
  at("task").hidden = name === null;
  document.title = name === null ? "xprompt" : `${name} · xprompt`;
  showTasks();
  if (name === null) return;
  try {
    const { body } = await call(path(name));
    if (current() !== name) return;
    const changed = shown?.task !== body.task;
    shown = body;
    at("task-name").textContent = body.task;
    at("task-facts").textContent = facts(body);
    showError(body.load_error && `The newest file was rejected: ${body.load_error.reason}`);
    if (changed) {
      showFields(body);
      at("answer").replaceChildren();
      at("answer-note").textContent = "";
      at("versions-note").textContent = "";
    }
    showAbout(body);
    await Promise.all([showVersions(name), showPicture(name)]);
  } catch (problem) {
    if (current() !== name) return;
    shown = null;
    at("task-name").textContent = name;
    at("task-facts").textContent = "";
    showError(problem.message);
    for (const id of ["fields", "answer", "picture", "versions", "about"]) at(id).replaceChildren();
  }
  at("predict").disabled = shown === null;
}

function showError(text) {
  at("task-error").hidden = !text;
  at("task-error").textContent = text ?? "";
}

function facts(task) {
  if (!task.prompt) return "This task does not answer.";
  const { tokens, parameters, file_bytes } = task.prompt;
  return `Version ${task.version} · ${tokens.kept} tokens before each text · ${parameters.toLocaleString()} values, ${bytes(file_bytes)}`;
}

function showFields(task) {
  const fields = task.fields ?? [];
  at("fields").replaceChildren(...fields.map((field) =>
    el("label", {}, field, el("textarea", { name: field, rows: 2, required: true }))));
}

async function predict(event) {
  event.preventDefault();
  if (!shown) return;
  const task = shown.task;
  const input = Object.fromEntries(new FormData(at("try")));
  at("predict").disabled = true;
  at("answer-note").textContent = "…";
  const start = performance.now();
  try {
    const { body } = await send(path(task, "/predict"), "POST", { input, truncate: true });
    if (shown?.task !== task) return;
    const [answer] = body.predictions;
    at("answer").replaceChildren(...(answer.error ? [el("p", { class: "error" }, answer.error.detail)] : showAnswer(answer)));
    const took = `${Math.round(performance.now() - start)} ms`;
    const { input_tokens, prompt_tokens, output_tokens } = body.usage;
    const cut = answer.truncated ? " · the text was cut" : "";
    const written = output_tokens ? `, ${output_tokens} written` : "";
    at("answer-note").textContent = `version ${body.version} · ${took} · ${input_tokens} tokens of text, ${prompt_tokens} of prompt${written}${cut}`;
  } catch (problem) {
    at("answer").replaceChildren(el("p", { class: "error" }, problem.message));
    at("answer-note").textContent = "";
  } finally {
    at("predict").disabled = shown === null;
  }
}

function showAnswer(answer) {
  if (answer.text !== undefined) return [el("p", { class: "text" }, answer.text)];
  const scores = Object.entries(answer.scores).sort((a, b) => b[1] - a[1]);
  return scores.map(([label, score]) =>
    el("div", { class: label === answer.label ? "score best" : "score" },
      el("span", {}, label),
      el("span", { class: "track" }, bar(score)),
      el("span", { class: "number" }, percent(score))));
}

function bar(share) {
  const filled = el("div", { class: "fill" });
  filled.style.width = `${100 * share}%`;
  return filled;
}

// --- the picture ---

async function showPicture(name) {
  try {
    const { body } = await call(path(name, "/picture"));
    if (current() !== name) return;
    at("picture").replaceChildren(draw(body));
    at("picture-note").textContent = describe(body);
  } catch (problem) {
    at("picture-note").textContent = problem.message;
    at("picture").replaceChildren();
  }
}

// --- versions ---

async function showVersions(name) {
  if (!takesChanges) return;
  const { body, etag } = await call(path(name, "/versions"));
  if (current() !== name) return;
  active = etag;
  const many = body.versions.length > 1;
  at("versions").replaceChildren(...body.versions.map((version) =>
    el("tr", {},
      el("td", {}, el("code", {}, version.version), " ",
        version.active ? el("span", { class: "badge" }, "active") : null,
        version.shadow ? el("span", { class: "badge soft" }, "shadow") : null),
      el("td", {}, time(version.since)),
      el("td", { class: "number" }, `${version.traffic_percent} %`),
      el("td", { class: "number" }, bytes(version.file_bytes)),
      el("td", {}, many && !version.active
        ? el("button", { type: "button", class: "quiet", onclick: () => rollBack(name, version.version) }, "Roll back to it")
        : null))));
}

async function rollBack(task, version) {
  try {
    const headers = { "content-type": "application/json", ...(active ? { "if-match": active } : {}) };
    await call(path(task, "/rollback"), { method: "POST", headers, body: JSON.stringify({ version }) });
    await showTask();
    at("versions-note").textContent = `Version ${version} is active.`;
  } catch (problem) {
    await showTask();
    at("versions-note").textContent = problem.status === 412
      ? "Somebody changed this task meanwhile; look again before you roll back."
      : problem.message;
  }
}

// --- about ---

function showAbout(task) {
  const rows = [
    ["Template", task.template && el("code", {}, task.template)],
    ["Labels", task.labels?.map((label) => (label.name === label.words ? label.name : `${label.name} (“${label.words}”)`)).join(", ")],
    ["Longest text", task.max_input_tokens && plural(task.max_input_tokens, "token")],
    ["Longest answer", task.max_new_tokens && plural(task.max_new_tokens, "token")],
    ["Measured", measured(task.metrics)],
    ["Base model", task.base_model && `${task.base_model.name} (${task.base_model.fingerprint})`],
    ["Made by", task.producer],
    ["Memory", task.prompt && bytes(task.prompt.memory_bytes)],
  ];
  at("about").replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

function measured(metrics) {
  const of = (split) => Object.entries(metrics?.[split] ?? {}).filter(([, x]) => typeof x === "number").map(([name, x]) => `${name} ${x.toFixed(3)}`);
  const parts = [["test", of("test")], ["dev", of("dev")]].filter(([, xs]) => xs.length > 0).map(([split, xs]) => `${xs.join(", ")} on ${split}`);
  return parts.join("; ");
}

async function uploaded(name, outcome) {
  await loadTasks();
  if (current() !== name) location.hash = path(name);
  await showTask();
  at("versions-note").textContent = outcome;
}

// --- the API key ---

function askForKey(reason = "") {
  if (at("key").open || at("upload").open) return;
  at("key-note").textContent = reason;
  at("key").showModal();
}

// --- what people do ---

at("filter").addEventListener("input", () => showTasks());
at("try").addEventListener("submit", predict);
at("try").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) at("try").requestSubmit();
});
at("upload-button").addEventListener("click", () => openUpload());
at("upload-file").addEventListener("change", () => {
  const file = at("upload-file").files[0];
  if (file && !at("upload-name").value) at("upload-name").value = stem(file.name);
});
at("upload").querySelector("form").addEventListener("submit", (event) => upload(event, uploaded));
at("key-button").addEventListener("click", () => askForKey());
at("key").addEventListener("close", () => {
  if (at("key").returnValue !== "send") return;
  sessionStorage.setItem("key", at("key-value").value);
  at("key-value").value = "";
  start();
});
addEventListener("hashchange", () => {
  showTask();
  at("main").focus({ preventScroll: true });
  scrollTo(0, 0);
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|TEXTAREA/.test(document.activeElement?.tagName ?? "") && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    at("filter").focus();
  }
});
let depth = 0; // nested dragenter events
const hasFile = (event) => takesChanges && [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragenter", (event) => {
  if (!hasFile(event)) return;
  depth += 1;
  at("drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!hasFile(event)) return;
  depth -= 1;
  at("drop").hidden = depth > 0 ? false : true;
});
addEventListener("dragover", (event) => hasFile(event) && event.preventDefault());
addEventListener("drop", (event) => {
  if (!hasFile(event)) return;
  event.preventDefault();
  depth = 0;
  at("drop").hidden = true;
  if (!document.querySelector("dialog[open]")) openUpload(event.dataTransfer.files[0]);
});
addEventListener("keywanted", (event) => askForKey(event.detail));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => current() && showPicture(current()));

async function start() {
  try {
    await loadTasks();
  } catch (problem) {
    tasks = [];
    trouble = problem.message;
  }
  await showTask();
}

start();
watch();
setInterval(watch, 2000);
setInterval(() => !document.hidden && loadTasks({ quiet: true }).catch(() => {}), 10_000);
