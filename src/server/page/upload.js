// Uploading a prompt file.

import { call, path } from "./api.js";
import { at } from "./build.js";

let dropped = null;

export function openUpload(file = null) {
  dropped = file;
  at("upload-file").required = file === null;
  at("upload-file").parentElement.hidden = file !== null;
  at("upload-heading").textContent = file === null ? "Upload a prompt" : `Upload ${file.name}`;
  at("upload-name").value = file === null ? "" : stem(file.name);
  at("upload-note").textContent = "";
  at("upload").showModal();
  at("upload-name").focus();
}

export const stem = (name) => name.replace(/\.safetensors$/, "");

// Sends what the dialog holds; `done` hears of the task and of what became of it.
export async function upload(event, done) {
  if (event.submitter?.value !== "send") return;
  event.preventDefault();
  const file = dropped ?? at("upload-file").files[0];
  const name = at("upload-name").value.trim();
  const activate = at("upload-active").checked;
  at("upload-send").disabled = true;
  at("upload-note").textContent = "Reading, checking and replaying its golden examples …";
  try {
    const { body } = await call(`${path(name)}?activate=${activate}`, { method: "PUT", headers: { "content-type": "application/octet-stream" }, body: file });
    at("upload").close();
    await done(name, body.active === body.version ? `Version ${body.version} is active.` : `Version ${body.version} is kept; ${body.active} stays active.`);
  } catch (problem) {
    at("upload-note").textContent = problem.message;
  } finally {
    at("upload-send").disabled = false;
  }
}
