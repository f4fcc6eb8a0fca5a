"""A hub of models on this machine, as far as fetching one needs it: a listing, and files with their hashes."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# files of this size and more are large: their ETag is a SHA-256 and not git's hash
LARGE = 100_000


def etag(content: bytes) -> str:
    if len(content) >= LARGE:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextlib.contextmanager
def serve(name: str, folder: Path) -> Iterator[str]:
    """Serves a folder as the model of this name; gives the hub's address."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            revision, _, of_model = self.path.removeprefix(f"/{name}/resolve/").partition("/")
            file = files.get(of_model) if revision in ("main", COMMIT) else None
            if self.path.startswith(f"/api/models/{name}/revision/"):
                siblings = [{"rfilename": file} for file in files]
                listing = {"id": name, "sha": COMMIT, "private": False, "siblings": siblings}
                self.send(200, {}, json.dumps(listing).encode())
            elif file is None:
                self.send(404, {"x-error-code": "EntryNotFound", "x-repo-commit": COMMIT}, b"")
            else:
                self.send(200, {"x-repo-commit": COMMIT, "ETag": f'"{etag(file)}"'}, file)

        do_GET = do_HEAD = answer

        def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *arguments: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
