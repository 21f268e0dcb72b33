"""What tests of every kind of source ask: names, gray levels, and the sentence of what cannot be opened."""

import pytest

from lookalike.data import Images, Source, open_source


def names(source: Source) -> list[str]:
    return [source.name(i) for i in range(len(source))]


def levels(source: Images) -> list[int]:
    return [int(source.read(i).float().mean()) for i in range(len(source))]


def sentence(thing, **options) -> str:
    """The one line of the ValueError that opening raises."""
    with pytest.raises(ValueError) as caught:
        open_source(thing, **options)
    assert "\n" not in str(caught.value)
    assert type(caught.value) is ValueError
    return str(caught.value)
