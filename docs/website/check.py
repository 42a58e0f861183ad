"""Check a built site: links and anchors lead somewhere, and nothing is fetched from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The anchors of a page, its links, and what a browser loads with it."""

    def __init__(self, text: str):
        super().__init__()
        self.anchors: set[str] = {"", "__top"}
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one element links to, loads or names."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if tag == "link" and values.get("rel") not in ("prev", "next", "canonical"):
            self.loaded.add(values.get("href", ""))
        self.loaded |= {values["src"]} if "src" in values else set()


def problems(site: Path) -> Iterator[str]:
    """Yield a line for each dead link, missing anchor, and foreign address that a page loads."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if path.name != "404.html"  # for servers: its links begin at their root
    }
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        yield from (f"{name}: {line}" for line in _dead(path, page, pages))
        foreign = sorted(address for address in page.loaded if urlsplit(address).netloc)
        yield from (f"{name} loads {address}" for address in foreign)
    for path in site.rglob("*.css"):
        text = path.read_text(encoding="utf-8")
        for address in re.findall(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)", text):
            yield f"{path.relative_to(site)} loads {address}"


def _dead(path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield the links of a page to files and anchors that are not there."""
    for link in sorted(page.links | page.loaded):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if target.is_dir():
            target /= "index.html"
        if not target.exists():
            yield f"{link} leads nowhere"
        elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"{link}: there is no such anchor"
