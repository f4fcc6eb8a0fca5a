#!/usr/bin/env python3
"""Build the documentation as a site with mdBook, and check every link of it. Run by `make book`, which installs mdBook.

    python3 scripts/book.py MDBOOK

The book's pages are those of docs/SUMMARY.md, some of them outside docs/. They are laid out in target/book/src as in the
repository, so that their links hold, with the files and folders that they link to. The site is target/book/html.
"""

from __future__ import annotations

import html.parser
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BOOK = ROOT / "target/book"


def main() -> int:
    shutil.rmtree(BOOK, ignore_errors=True)
    pages, problems = lay_out()
    if not problems:
        subprocess.run([sys.argv[1], "build", str(BOOK)], check=True)
        problems = [*unlisted(pages), *broken()]
    for problem in problems:
        print(f"book: {problem}", file=sys.stderr)
    if not problems:
        print(f"{(BOOK / 'html/index.html').relative_to(ROOT)}: {len(pages)} pages, every link leads somewhere")
    return 1 if problems else 0


def links(text: str) -> list[str]:
    """What a page links to in the repository, without anchors."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"\]\(([^)#\s]+)", re.sub(r"`[^`]*`", "", text))
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def lay_out() -> tuple[list[Path], list[str]]:
    """Copies pages and what they link to. Returns the pages, and what they link to that is not there."""
    summary = (DOCS / "SUMMARY.md").read_text(encoding="utf-8")
    pages = [(DOCS / link).resolve() for link in links(summary)]
    missing = [f"docs/SUMMARY.md: {page.relative_to(ROOT)}: there is no such file" for page in pages if not page.is_file()]
    source = BOOK / "src"
    for page in filter(Path.is_file, pages):
        put(page)
        for link in links(page.read_text(encoding="utf-8")):
            target = (page.parent / link).resolve()
            if not target.exists():
                missing.append(f"{page.relative_to(ROOT)}: {link}: there is no such file")
            elif target not in pages:
                put(target)
    shutil.copy(DOCS / "book.toml", BOOK)
    shutil.copy(DOCS / "book.css", BOOK)

    def moved(match: re.Match[str]) -> str:
        return f"]({(DOCS / match[1]).resolve().relative_to(ROOT)})"

    (source / "SUMMARY.md").write_text(re.sub(r"\]\(([^)]+)\)", moved, summary), encoding="utf-8")
    return pages, missing


def put(path: Path) -> None:
    """Copies a file; of a folder its files, with a page that lists them."""
    copy = BOOK / "src" / path.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file():
        shutil.copy(path, copy)
        return
    copy.mkdir(exist_ok=True)
    names = sorted(file.name for file in path.iterdir() if file.is_file())
    for name in names:
        shutil.copy(path / name, copy)
    items = "\n".join(f'<li><a href="{name}">{name}</a></li>' for name in names)
    page = f"<!doctype html>\n<title>{path.name}</title>\n<h1>{path.relative_to(ROOT)}</h1>\n<ul>\n{items}\n</ul>\n"
    (copy / "index.html").write_text(page, encoding="utf-8")


def unlisted(pages: list[Path]) -> list[str]:
    """Pages of docs/, and those that the book links to, that it does not have: mdBook makes no page of them."""
    known = {*pages, DOCS / "SUMMARY.md", ROOT / "SUMMARY.md"}
    staged = {ROOT / path.relative_to(BOOK / "src") for path in (BOOK / "src").rglob("*.md")}
    found = sorted({*DOCS.rglob("*.md"), *staged} - known)
    return [f"{path.relative_to(ROOT)} is not in docs/SUMMARY.md" for path in found]


class Links(html.parser.HTMLParser):
    """What a page of the site links to, and what can be linked to in it."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id" and value:
                self.ids.add(value)


def broken() -> list[str]:
    """Links of the site that lead nowhere."""
    site = BOOK / "html"
    read: dict[Path, Links] = {}
    for path in sorted(site.rglob("*.html")):
        read[path] = Links()
        read[path].feed(path.read_text(encoding="utf-8"))
    problems = []
    for path, page in read.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            base = site if path.name in ("404.html", "toc.html") or parts.path.startswith("/") else path.parent
            target = (base / urllib.parse.unquote(parts.path.lstrip("/"))).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            where = f"{path.relative_to(site)}: {link}"
            if not target.exists():
                problems.append(f"{where}: there is no such file")
            elif parts.fragment and target in read and parts.fragment not in read[target].ids:
                problems.append(f"{where}: there is no such place")
    return problems


if __name__ == "__main__":
    sys.exit(main())
