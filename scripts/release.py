#!/usr/bin/env python3
"""Make a release archive of both programs, and try it. Run by `make release`.

    python3 scripts/release.py [--profile dev]
    python3 scripts/release.py --licences FILE      only the licences of the crates, as the container images hold them

The archive, target/release-archive/xprompt-VERSION-SYSTEM.tar.gz with its checksum beside it, unpacks to one folder that
runs where it lies: programs in bin/, ONNX Runtime in lib/ (where the programs look for it), manual pages and shell
completions in share/, the bundled model and prompts, the guide's documents, and the licences of everything in it. The
same files give the same archive, byte for byte. SYSTEM's C library has to be as new as that of this machine.

Then the archive is unpacked in an empty folder, and without any environment: both programs answer, the server predicts.
`--profile dev` packs programs that `cargo test` has built, to try this script in little time.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import platform
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = ["xprompt-server", "xprompt-trainer"]
#: Where a shell looks for completions below a prefix, by the shell's name.
COMPLETIONS = {
    "bash": "share/bash-completion/completions/{}",
    "zsh": "share/zsh/site-functions/_{}",
    "fish": "share/fish/vendor_completions.d/{}.fish",
}
LIBRARY = "libonnxruntime.dylib" if sys.platform == "darwin" else "libonnxruntime.so"
LICENCE_NAMES = ("license", "licence", "copying", "notice", "unlicense", "copyright")
PATIENCE = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="release", choices=["release", "dev"])
    parser.add_argument("--licences", type=Path, metavar="FILE", help="write these and nothing else")
    args = parser.parse_args()
    profile = args.profile

    host = next(line.split()[1] for line in run("rustc", "-vV").splitlines() if line.startswith("host:"))
    of_host = ["--filter-platform", host]
    metadata = json.loads(run("cargo", "metadata", "--locked", "--format-version", "1", *of_host, cwd=ROOT))
    if args.licences:
        args.licences.write_text(licences(metadata), encoding="utf-8")
        return 0
    subprocess.run(["cargo", "build", "--locked", "--profile", profile, "--workspace", "--bins"], cwd=ROOT, check=True)
    built = Path(metadata["target_directory"]) / ("debug" if profile == "dev" else "release")
    version = run(built / "xprompt-server", "--version").split()[1]
    system = f"{platform.machine()}-{platform.system().lower()}"
    name = f"xprompt-{version}-{system}" + ("-dev" if profile == "dev" else "")
    out = Path(metadata["target_directory"]) / "release-archive"
    out.mkdir(parents=True, exist_ok=True)
    archive = out / f"{name}.tar.gz"
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / name
        stage(staged, built, metadata)
        pack(staged, archive)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    Path(f"{archive}.sha256").write_text(f"{digest}  {archive.name}\n", encoding="utf-8")
    check(archive, name)
    print(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 1e6:.0f} MB, unpacked and tried: ok")
    return 0


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode != 0:
        sys.exit(f"release: {' '.join(map(str, command))}: status {done.returncode}")
    return done.stdout


# --- what is in it ---


def stage(staged: Path, built: Path, metadata: dict) -> None:
    """Lays the archive's files out."""

    def put(path: str, source: Path) -> None:
        (staged / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, staged / path)

    runtime = ROOT / ".cache/onnxruntime"
    put(f"lib/{LIBRARY}", runtime / LIBRARY)
    put("licences/onnxruntime-LICENSE", runtime / "LICENSE")
    put("licences/onnxruntime-ThirdPartyNotices.txt", runtime / "ThirdPartyNotices.txt")
    (staged / "licences/rust-crates.txt").write_text(licences(metadata), encoding="utf-8")
    for program in PROGRAMS:
        put(f"bin/{program}", built / program)
        run(built / program, "manual", staged / "share/man/man1")
        for shell, place in COMPLETIONS.items():
            text = run(built / program, "completions", shell)
            path = staged / place.format(program)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    tracked = run("git", "ls-files", "LICENSE", "README.md", "CHANGELOG.md", "docs", "models", "prompts", cwd=ROOT)
    for path in tracked.splitlines():
        put(path, ROOT / path)


def licences(metadata: dict) -> str:
    """The licence texts of all crates that a program may hold, each text once."""
    normal = set()
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    waiting = list(metadata["workspace_members"])
    while waiting:
        node = nodes[waiting.pop()]
        for dependency in node["deps"]:
            kinds = [kind["kind"] for kind in dependency["dep_kinds"]]
            if None in kinds and dependency["pkg"] not in normal:
                normal.add(dependency["pkg"])
                waiting.append(dependency["pkg"])
    texts: dict[str, list[str]] = {}
    for package in sorted((packages[one] for one in normal), key=lambda one: (one["name"], one["version"])):
        if package["id"] in metadata["workspace_members"]:
            continue
        title = f"{package['name']} {package['version']}: {package['license'] or 'see below'}"
        folder = Path(package["manifest_path"]).parent
        files = sorted(path for path in folder.iterdir() if path.name.lower().startswith(LICENCE_NAMES) and path.is_file())
        found = [path.read_text(encoding="utf-8", errors="replace").strip() for path in files]
        for text in found or ["(the crate holds no text of its licence)"]:
            texts.setdefault(text, []).append(title)
    rule = "\n\n" + "=" * 80 + "\n"
    return rule.join("\n".join(titles) + "\n\n" + text for text, titles in texts.items()) + "\n"


def pack(staged: Path, archive: Path) -> None:
    """Archives the folder. Times, owners and order are always the same."""
    with archive.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as zipped:
        with tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(staged.rglob("*")):
                entry = tar.gettarinfo(path, str(path.relative_to(staged.parent)))
                entry.uid = entry.gid = 0
                entry.uname = entry.gname = ""
                entry.mtime = 0
                entry.mode = 0o755 if path.is_dir() or path.parent.name == "bin" else 0o644
                if path.is_dir():
                    tar.addfile(entry)
                else:
                    with path.open("rb") as content:
                        tar.addfile(entry, content)


# --- whether it works ---


def check(archive: Path, name: str) -> None:
    """Unpacks the archive where nothing else is, and uses it without any environment."""
    with tempfile.TemporaryDirectory() as folder:
        run("tar", "-xzf", archive, "-C", folder)
        root = Path(folder) / name
        if [path.name for path in Path(folder).iterdir()] != [name]:
            sys.exit("release: the archive does not unpack to one folder")
        pages = {path.name for path in (root / "share/man/man1").iterdir()}
        for page in ("xprompt-server.1", "xprompt-server-keygen.1", "xprompt-trainer.1", "xprompt-trainer-run.1"):
            if page not in pages:
                sys.exit(f"release: the manual page {page} is missing")
        run("bash", "-n", root / "share/bash-completion/completions/xprompt-server")
        inspected = run(root / "bin/xprompt-trainer", "inspect", root / "prompts/tweet-sentiment.safetensors", env={})
        if "tokens" not in inspected:
            sys.exit(f"release: inspect prints {inspected}")
        rows = root / "rows.jsonl"
        rows.write_text('{"text": "what a lovely morning", "label": "positive"}\n', encoding="utf-8")
        prompt = ["prompts/tweet-sentiment.safetensors", "--data", "rows.jsonl"]
        run("bin/xprompt-trainer", "eval", *prompt, cwd=root, env={})
        predict(root)
        # a link to the program in a folder of programs finds the library too
        (Path(folder) / "xprompt-server").symlink_to(root / "bin/xprompt-server")
        predict(root, Path(folder) / "xprompt-server")


def predict(root: Path, program: Path | None = None) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [program or root / "bin/xprompt-server", "--listen", address, "--log-level", "warn"]
    server = subprocess.Popen(command, cwd=root, env={})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        end = time.monotonic() + PATIENCE
        while True:
            if server.poll() is not None:
                sys.exit(f"release: the server ended with status {server.returncode}")
            try:
                opener.open(f"http://{address}/health/ready").close()
                break
            except (urllib.error.URLError, ConnectionError) as error:
                if time.monotonic() > end:
                    sys.exit(f"release: the server is not ready: {error}")
                time.sleep(0.1)
        call = urllib.request.Request(
            f"http://{address}/tasks/tweet-sentiment/predict",
            data=b'{"input": "what a lovely morning"}',
            headers={"content-type": "application/json"},
        )
        label = json.load(opener.open(call))["predictions"][0]["label"]
        if label != "positive":
            sys.exit(f"release: the server predicts {label}")
    finally:
        server.terminate()
        if server.wait(PATIENCE) != 0:
            sys.exit(f"release: the server ended with status {server.returncode}")


if __name__ == "__main__":
    sys.exit(main())
