"""Sentences about keys and values of a recipe that are wrong: what is wrong with each, and the nearest right key."""

import difflib
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

OTHER_WORDS = {  # of other libraries, for what has another name here
    "lr": "optimizer.rate",
    "learning_rate": "optimizer.rate",
    "optimizer.lr": "optimizer.rate",
    "wd": "optimizer.weight_decay",
    "batch_size": "batch",
    "max_epochs": "epochs",
    "temperature": "method.temperature",
}
NEAR = 0.6  # likeness below which a key is not taken for a misspelt one
LENGTH = 80  # of what a message quotes: a file may hold anything
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxlong = SHORT.maxother = LENGTH
SHORT.maxlevel = 3


REASONS = {  # what pydantic finds, in words of ours
    "int_parsing": "give a whole number",
    "int_type": "give a whole number",
    "int_from_float": "give a whole number",
    "float_parsing": "give a number",
    "float_type": "give a number",
    "finite_number": "give a finite number",
    "bool_parsing": "give true or false",
    "bool_type": "give true or false",
    "string_type": "give a word",
    "tuple_type": "give a list, as [a, b]",
    "literal_error": "give {expected}",
    "greater_than": "give a number above {gt:g}",
    "greater_than_equal": "give {ge:g} or more",
    "less_than": "give a number below {lt:g}",
    "less_than_equal": "give {le:g} or less",
}


def suggested(word: str, words: Iterable[str], otherwise: str) -> str:
    """The nearest of `words` where one is near, as the end of a sentence; else where to look."""
    near = nearest(word, words)
    return f"the nearest is {near!r}" if likeness(word, near) >= NEAR else otherwise


def nearest(word: str, words: Iterable[str]) -> str:
    """The word of `words` that looks most like `word`."""
    return max(words, key=lambda other: likeness(word, other))


def likeness(one: str, other: str) -> float:
    """From 0 to 1, whatever the case of the letters."""
    return difflib.SequenceMatcher(None, one[:LENGTH].lower(), other.lower()).ratio()


def shown(value: object) -> str:
    """The value as a message quotes it: in one line, and short."""
    try:
        return SHORT.repr(value)
    except ValueError:  # Python writes no number of more than 4300 digits
        return "a number of far too many digits"


def complaints(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """A sentence for each wrong key: first keys that do not exist, then impossible values, then missing keys."""
    keys = list(_keys(model))
    unknown, impossible, missing = list[str](), dict[str, str](), list[str]()
    for one in error.errors():
        path = ".".join(shown(part) if _odd(part) else str(part) for part in one["loc"])
        if one["type"] == "extra_forbidden":
            unknown.append(path)
        elif one["type"] == "missing":
            missing.append(path)
        else:
            key = max((k for k in keys if f"{path}.".startswith(f"{k}.")), key=len, default=path)
            reason = _reason(one, [k for k in keys if k.startswith(f"{key}.")])
            whole = one["type"] == "value_error" and isinstance(one["input"], Mapping)  # keys that do not go together
            value = f"{key}: " if whole else f"{key} = {shown(one['input'])} is not possible: "
            start = f"{impossible[key]}, or " if key in impossible else value
            impossible[key] = start + reason
    meant = {path: _meant(path, keys) for path in unknown}
    return [
        *(_no_key(path, near, keys) for path, near in meant.items()),
        *impossible.values(),
        *(f"the key {path!r} is missing" for path in missing if path not in meant.values()),
    ]


def _odd(part: int | str) -> bool:
    """A key that would spoil the line."""
    return isinstance(part, str) and (len(part) > LENGTH or not part.isprintable())


def _reason(error: Mapping[str, Any], inside: Sequence[str]) -> str:
    """What is wrong with a value; `inside`: the keys below it, if it is a section."""
    if error["type"] == "model_type":
        return f"it is a section with the keys {', '.join(inside)}"
    if error["type"] in REASONS:
        return REASONS[error["type"]].format(**error.get("ctx", {}))
    reason = error["msg"].removeprefix("Value error, ")
    return reason[0].lower() + reason[1:]


def _no_key(path: str, near: str, keys: Sequence[str]) -> str:
    """The nearest key; where none is near, what its section has."""
    section, _, word = path.rpartition(".")
    if path in OTHER_WORDS or likeness(word, near.rpartition(".")[2]) >= NEAR or not section:
        return f"there is no key {path!r}; the nearest is {near!r}"
    siblings = [key for key in keys if key.rpartition(".")[0] == section]
    return f"there is no key {path!r}; {section} has {', '.join(siblings)}"


def _meant(path: str, keys: Sequence[str]) -> str:
    """The key most like a path that does not exist, by its last word; of equals one of the same section."""
    if path in OTHER_WORDS:
        return OTHER_WORDS[path]
    section, _, word = path.rpartition(".")

    def score(key: str) -> float:
        its_section, _, its_word = key.rpartition(".")
        return likeness(word, its_word) + 0.1 * (section == its_section)

    return max(keys, key=score)


def _keys(model: type[BaseModel], section: str = "") -> Iterator[str]:
    """Every key that a recipe may have, dotted."""
    for name, field in model.model_fields.items():
        yield f"{section}{name}"
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _keys(part, f"{section}{name}.")
