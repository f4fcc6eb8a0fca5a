// The server's API: JSON in and out, problem documents as errors.

export class Problem extends Error {
  constructor(status, document) {
    super(document.detail ?? document.title ?? `status ${status}`);
    this.status = status;
    this.code = document.code;
  }
}

export async function call(path, options = {}) {
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
    if (response.status === 401) dispatchEvent(new Event("keywanted"));
    throw new Problem(response.status, typeof body === "string" ? { detail: body } : body);
  }
  return { body, etag: response.headers.get("etag") };
}

export const send = (path, method, body) =>
  call(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });

export const path = (task, rest = "") => `/tasks/${encodeURIComponent(task)}${rest}`;
