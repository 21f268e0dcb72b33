"""A benchmark of copies from any photos: no picture is in two of the parts that are trained on, searched in, searched.

Every photo plays one part: training, background (for score normalization), reference (a few of which have edited
copies: the sources), or stranger, of which queries are made that match nothing, and the other pictures that edits put
beside, below or on a copy. The folder has the layout of the Image Similarity Challenge 2021.
"""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lookalike.api.frozen import MANIFEST, demand_as_built, manifest_of
from lookalike.api.tiles import picture
from lookalike.data import Images, open_source
from lookalike.data.pictures import NEAR, Pictures, pictures
from lookalike.functional import random
from lookalike.training.files import replacing
from lookalike.training.progress import Line, steps_of
from lookalike.transforms.edits import COLUMNS, FAMILIES, HELD_OUT, STRENGTHS, Edit, composed, drawn, edited

QUALITY = 95  # of every JPEG that is written, edited or not: nothing but its pixels tells a copy
LEAST = 10  # different photos of which a benchmark can be made
SMALLEST = 16  # pixels of the longer side
SHARES = {"training": 0.35, "background": 0.15, "references": 0.3, "strangers": 0.2}  # our choice
SOURCES = 1 / 3  # of the references, that copies are made of; our choice
# numbered as in the challenge; a name says nothing about what an image is
NAMES = {
    "training": "training/T{:06}.jpg",
    "background": "background/B{:06}.jpg",
    "references": "references/R{:06}.jpg",
}
QUERY = "queries/Q{:05}.jpg"
TRUTH, EDITS = "ground_truth.csv", "edits.jsonl"


@dataclass(frozen=True, kw_only=True)
class CopySizes:
    """How many photos play each part; `sources` of the references have copies.

    Raises ValueError where a part is empty, or there are more sources than references.
    """

    training: int
    background: int
    references: int
    sources: int
    strangers: int

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1 or self.sources > self.references:
            raise ValueError(f"each part takes 1 photo or more, and sources are some of the references, got {self}")

    @property
    def photos(self) -> int:
        return self.training + self.background + self.references + self.strangers

    @classmethod
    def of(cls, photos: int) -> "CopySizes":
        """All photos, in the shares SHARES. Raises ValueError for fewer than LEAST."""
        if photos < LEAST:
            raise ValueError(
                f"a benchmark of copies needs {LEAST} different photos at least, and there are {photos}: add photos"
            )
        parts = {name: int(share * photos) for name, share in SHARES.items()}
        parts["training"] += photos - sum(parts.values())
        return cls(**parts, sources=max(1, int(parts["references"] * SOURCES)))


@dataclass(frozen=True)
class Query:
    """A query before it has a number: the photo it is made of, what it is, and its edits."""

    photo: int
    kind: str
    edits: tuple[Edit, ...] = ()


def build_copy_benchmark(
    photos: Any,
    out: str | PathLike[str],
    *,
    seed: int = 0,
    sizes: CopySizes | None = None,
    copies: int = 4,
    side: int = 512,
    near: int = NEAR,
    line: Line | None = None,
) -> Path:
    """Writes the folder of a benchmark and returns it; the same photos, numbers and versions give the same bytes.

    Of each source `copies` edited queries are made, of each stranger as many, and one without edits; every other has
    one edit, families and strengths in turn, the rest two to four. Images that show one picture (data.pictures, with
    its `near`) count once, unreadable ones not at all. side: pixels of the longer side, at most.

    The folder is whole or not there; one that holds this very benchmark is left as it is. Raises ValueError where it
    holds anything else, where the photos are too few, and for numbers that are impossible.
    """
    place = Path(out)
    if copies < 1 or side < SMALLEST:
        raise ValueError(f"copies={copies} and side={side} make no benchmark: ask for 1 and {SMALLEST} or more")
    said, source = line or Line(quiet=True), open_source(photos)
    parts = None if sizes is None else asdict(sizes)
    asked = {"images": source.identity(), "seed": seed, "sizes": parts, "copies": copies, "side": side, "near": near}
    if _stands(place, asked, said):
        said.say(f"{place} holds this benchmark already")
        return place
    with said.track("Looking for equal pictures", len(source)) as advance:
        found = pictures(source, near=near, on_progress=steps_of(advance))
    draft = Draft(source, found.first.tolist(), sizes or CopySizes.of(len(found.first)), seed, copies, side)
    said.say(_told(found, draft))
    with replacing(place) as folder, said.track("Writing the benchmark", draft.files) as advance:
        made = _written(folder, draft, partial(advance, 1))
        left_out = {"unreadable": found.unreadable, "equal": found.equal, "near": found.near}
        facts = {"asked": asked, "left_out": left_out, "held_out": HELD_OUT, "made_with": _versions(), "files": made}
        (folder / MANIFEST).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return place


@dataclass(frozen=True)
class Draft:
    """Which photo plays which part, and all queries: a pure function of the fields. photos: numbers in the source.

    Raises ValueError where the photos are too few.
    """

    source: Images
    photos: Sequence[int]
    sizes: CopySizes
    seed: int
    copies: int
    side: int

    def __post_init__(self) -> None:
        if self.sizes.photos > len(self.photos):
            raise ValueError(
                f"there are {len(self.photos):,} different photos, and the benchmark takes {self.sizes.photos:,} "
                f"({self.sizes}): add photos, or ask for fewer"
            )

    @cached_property
    def parts(self) -> Mapping[str, list[int]]:
        """The photos of each part, in a random order."""
        left, parts = iter(self._shuffled("parts", self.photos)), {}
        for name in SHARES:
            parts[name] = [next(left) for _ in range(getattr(self.sizes, name))]
        return parts

    @cached_property
    def queries(self) -> list[Query]:
        """In the order of their numbers, which says nothing about them."""
        sources = self._shuffled("sources", self.parts["references"])[: self.sizes.sources]
        copies, edited_strangers = self._edited("copy", sources), self._edited("edited stranger", self.strangers)
        return self._shuffled("queries", [*copies, *edited_strangers, *(Query(p, "stranger") for p in self.strangers)])

    @property
    def strangers(self) -> list[int]:
        return self.parts["strangers"]

    @property
    def files(self) -> int:
        return len(self.queries) + sum(len(self.parts[name]) for name in NAMES)

    def photo(self, number: int) -> Image.Image:
        """At the size of the benchmark."""
        return _within(picture(self.source.read(number)), self.side)

    def drawn(self, query: Query) -> Image.Image:
        return _within(
            edited(self.photo(query.photo), query.edits, lambda share: self.photo(self.other(share))), self.side
        )

    def other(self, share: float) -> int:
        """The photo that an edit puts beside, below or on another: a stranger."""
        return self.strangers[int(share * len(self.strangers))]

    def _edited(self, kind: str, photos: Sequence[int]) -> Iterator[Query]:
        """`copies` queries of each photo."""
        every = self._shuffled(kind, [(name, strength) for name in FAMILIES for strength in STRENGTHS])
        index = torch.arange(len(photos) * self.copies)
        rows = random.uniform(random.key("copy benchmark", kind, self.seed), index, COLUMNS).tolist()
        for number, numbers in enumerate(rows):
            if number % 2:
                edits = composed(numbers, tuple(FAMILIES), fewest=2)
            else:
                name, strength = every[number // 2 % len(every)]
                edits = [drawn(name, strength, numbers)]
            yield Query(photos[number // self.copies], kind, tuple(edits))

    def _shuffled(self, name: str, things: Sequence[Any]) -> list[Any]:
        order = torch.randperm(len(things), generator=random.generator("copy benchmark", name, self.seed))
        return [things[place] for place in order.tolist()]


def _written(folder: Path, draft: Draft, tick: Callable[[], None]) -> dict[str, dict[str, str]]:
    """Writes all but the manifest; of each file its SHA-256 and what it was made of."""
    made: dict[str, dict[str, str]] = {}

    def write(name: str, content: bytes, source: str) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        made[name] = {"sha256": hashlib.sha256(content).hexdigest(), "source": source}

    references = dict[int, str]()
    for part, form in NAMES.items():
        for number, photo in enumerate(draft.parts[part]):
            write(form.format(number), _jpeg(draft.photo(photo)), draft.source.name(photo))
            references |= {photo: Path(form.format(number)).stem} if part == "references" else {}
            tick()
    truth, lines = ["query_id,reference_id"], []
    for number, query in enumerate(draft.queries):
        name = QUERY.format(number)
        write(name, _jpeg(draft.drawn(query)), draft.source.name(query.photo))
        reference = references.get(query.photo, "")
        truth.append(f"{Path(name).stem},{reference}")
        lines.append(json.dumps({"query": Path(name).stem, "reference": reference or None, **_record(draft, query)}))
        tick()
    write(TRUTH, ("\n".join(truth) + "\n").encode(), "")
    write(EDITS, ("\n".join(lines) + "\n").encode(), "")
    return made


def _record(draft: Draft, query: Query) -> dict[str, Any]:
    """What was done to a query, for a line of JSON."""
    return {
        "kind": query.kind,
        "families": [edit.family for edit in query.edits],
        "strengths": [edit.strength for edit in query.edits],
        "settings": [dict(edit.settings) for edit in query.edits],
        "others": [[draft.source.name(draft.other(share)) for share in edit.others] for edit in query.edits],
    }


def _stands(place: Path, asked: Mapping[str, Any], line: Line) -> bool:
    """Whether the folder holds the benchmark asked for. Raises ValueError where it holds anything else."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return False
    there = manifest_of(place)
    if there.asked.get("images") != asked["images"]:
        raise ValueError(f"{place} holds a benchmark of other photos: give the name of a new folder (--out)")
    other = [
        f"{key} is {there.asked.get(key)!r}, not {asked[key]!r}" for key in asked if there.asked.get(key) != asked[key]
    ]
    if other:
        raise ValueError(f"{place} holds another benchmark ({other[0]}): give the name of a new folder (--out)")
    demand_as_built(place, there.files, line)
    return True


def _told(found: Pictures, draft: Draft) -> str:
    sizes, copies = draft.sizes, sum(query.kind == "copy" for query in draft.queries)
    left = len(found.first) - sizes.photos
    out = {
        "unreadable": found.unreadable,
        "equal to another": found.equal,
        "nearly equal": found.near,
        "not used": left,
    }
    skipped = "".join(f", {count:,} {what}" for what, count in out.items() if count)
    return (
        f"{found.images:,} images{skipped}: {sizes.training:,} to train on, {sizes.background:,} as background, "
        f"{sizes.references:,} references, {len(draft.queries):,} queries of which {copies:,} are copies"
    )


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("lookalike", "numpy", "pillow", "torch")}


def _within(image: Image.Image, side: int) -> Image.Image:
    """Scaled down where the longer side has more pixels than `side`."""
    scale = side / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(scale * pixels)) for pixels in image.size)
    return image.resize((width, height), Image.Resampling.BILINEAR)


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, subsampling=0)  # small images would lose half of their color
    return file.getvalue()
