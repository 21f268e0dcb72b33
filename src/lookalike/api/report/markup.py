"""Markup by templates in which every value is escaped, unless it is markup already."""

from collections.abc import Iterable, Mapping
from html import escape
from string import Template

from lookalike.data.decode import shown


class Html(str):
    """Text that is markup."""


def filled(template: str, values: Mapping[str, object]) -> Html:
    """The template with each $name replaced: Html as it is, all else as text that no browser takes for markup.

    Characters that cannot be shown, which a file name may hold, are written out. KeyError for a name without a value.
    """
    return Html(Template(template).substitute({name: safe(value) for name, value in values.items()}))


def safe(value: object) -> Html:
    if isinstance(value, Html):
        return value
    return Html(escape("\n".join(shown(line) for line in str(value).split("\n"))))


def joined(parts: Iterable[Html]) -> Html:
    return Html("".join(parts))
