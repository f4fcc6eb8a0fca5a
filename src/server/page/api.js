// The server's API: JSON in and out, problem documents as errors.

// Whether this address takes changes and shows metrics; with a listener of their own for them, only that one does.
export const takesChanges = document.body.dataset.changes === "here";

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.title ?? `status ${status}`);
    this.status = status;
    this.code = document.code;
  }
}

// Of a key that is missing or not known the page hears by the event `keywanted`, unless the call is `quiet`: one that
// nobody waits for must not ask again and again.
export async function call(path, { quiet, ...options } = {}) {
  const key = sessionStorage.getItem("key");
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch {
    throw new Problem(0, { detail: "the server does not answer" });
  }
  const type = response.headers.get("content-type") ?? "";
  const body = type.includes("json") ? await response.json() : await response.text();
  if (!response.ok) {
    const problem = new Problem(response.status, typeof body === "string" ? { detail: body } : body);
    if (response.status === 401 && !quiet) dispatchEvent(new CustomEvent("keywanted", { detail: key ? problem.message : "" }));
    throw problem;
  }
  return { body, etag: response.headers.get("etag") };
}

export const send = (path, method, body) =>
  call(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const path = (task, rest = "") => `/tasks/${encodeURIComponent(task)}${rest}`;
