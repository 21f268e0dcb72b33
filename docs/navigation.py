"""Pages enter the navigation by themselves: a pattern in `nav` of mkdocs.yml stands for the pages that it finds."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Called by mkdocs before it looks for pages."""
    config.nav = expanded(config.nav, Path(config.docs_dir))
    return config


def expanded(nav: Sequence[Any], docs: Path) -> list[Any]:
    """The navigation with each pattern (methods/*.md) replaced by its pages, by name, that no other entry names."""
    named = set(entries(nav))

    def pages(entry: Any) -> list[Any]:
        if isinstance(entry, dict):
            return [{title: expand(below) for title, below in entry.items()}]
        found = sorted(page.relative_to(docs).as_posix() for page in docs.glob(entry)) if "*" in entry else [entry]
        return [page for page in found if page == entry or page not in named]

    def expand(below: Any) -> Any:
        return [page for entry in below for page in pages(entry)] if isinstance(below, list) else below

    return expand(list(nav))


def entries(nav: Any) -> Iterator[str]:
    """All paths and patterns, at any depth."""
    if isinstance(nav, str):
        yield nav
    else:
        for below in nav.values() if isinstance(nav, dict) else nav:
            yield from entries(below)
