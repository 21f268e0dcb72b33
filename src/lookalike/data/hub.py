"""Data sets of the Hugging Face Hub and folders written by `save_to_disk`, through the package `datasets` [hub].

Images are decoded here, from their encoded bytes, as image files are.
"""

import hashlib
import os
import re
import sys
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from lookalike.data.decode import Unreadable, decode, demand_channels, shown, size
from lookalike.data.images import evenly
from lookalike.data.places import told_as

PREFIX, SPLIT = "hf:", "train"  # not hf://, which is fsspec's way to single files
CONTENTS = 64  # images whose bytes are part of the identity
_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
_ID = re.compile(r"(?P<path>[\w.-]+(/[\w.-]+)?)(/(?P<name>[\w.-]+))?(@(?P<revision>[\w./-]+))?(:(?P<split>.+))?")


class Rows:
    """The images in one column of a data set of the package `datasets`; an id is the number of the row.

    column: the name of the column; None where one column alone has the feature Image. It may also hold encoded images
    as plain bytes. Nothing is fetched that is not in the data set: a row that only names a URL is Unreadable.
    Raises ValueError where there is no such column, where there are several, and for an empty data set.
    """

    concurrent = True
    scaled_to: int | None = None  # may be set: see `decode`
    labels = None

    def __init__(self, dataset: Any, *, channels: int = 3, column: str | None = None) -> None:
        demand_channels(channels)
        if len(dataset) == 0:
            raise ValueError("the data set is empty: give one that holds images")
        self.dataset, self.channels = dataset.with_format(None), channels
        self.column = _image_column(dataset.features, column)
        self.rows = _encoded(self.dataset.select_columns([self.column]), self.column)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, index: int) -> UInt8[Tensor, "C H W"]:
        with told_as(self.name(index)):
            return decode(self._image(index), channels=self.channels, scaled_to=self.scaled_to)

    def name(self, index: int) -> str:
        return str(index)

    def size(self, index: int) -> tuple[int, int]:
        with told_as(self.name(index)):
            return size(self._image(index), scaled_to=self.scaled_to)

    def identity(self) -> str:
        """A hash over the column's name, the byte sizes of all images and the bytes of at most 64, evenly spaced."""
        digest = hashlib.blake2b(f"{self.column}\0{len(self)}\0".encode(), digest_size=16)
        for table in self.rows.with_format("arrow").iter(batch_size=1000):
            for images in table.column(self.column).chunks:
                digest.update(_sizes(images))
        for index in evenly(len(self), CONTENTS):
            try:
                image = self._image(index)
            except Unreadable:
                image = b""
            digest.update(image.encode() if isinstance(image, str) else image)
        return digest.hexdigest()

    def words(self, spec: str) -> list[str | None] | None:
        """The labels in a column, by "column:NAME"; None for another `spec`."""
        kind, _, name = spec.partition(":")
        if kind != "column":
            return None
        features = self.dataset.features
        if name not in features:
            raise ValueError(f"--labels {spec} names no column: there are {', '.join(features)}")
        values = list(self.dataset.select_columns([name])[:][name])
        if isinstance(features[name], _package().ClassLabel):
            values = [features[name].int2str(v) if isinstance(v, int) and v >= 0 else None for v in values]
        return [str(value) if isinstance(value, str | int) and str(value).strip() else None for value in values]

    def _image(self, index: int) -> str | bytes:
        """The encoded bytes, or the path of a local file."""
        value = self.rows[index][self.column]
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if data:
            return data
        if not path or "://" in path:
            raise Unreadable(self.name(index), f"the data set holds no bytes of it{f', only {path}' if path else ''}")
        return path


def is_id(text: str) -> bool:
    """Whether `text` names a data set of the Hub, by its prefix hf:."""
    return text.startswith(PREFIX) and not text.startswith(f"{PREFIX}//")


def may_be_id(text: str) -> bool:
    """Whether `text`, which is no path, has the form OWNER/NAME of the Hub."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text) is not None


def is_saved(folder: str) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    there = {name: os.path.isfile(os.path.join(folder, name)) for name in (_STATE, _INFO, _SPLITS)}
    return there[_SPLITS] or (there[_STATE] and there[_INFO])


def is_dataset(thing: object) -> bool:
    """Whether `thing` is a Dataset or DatasetDict of the package `datasets`."""
    package = sys.modules.get("datasets")  # whoever has one has imported it
    return package is not None and isinstance(thing, package.Dataset | package.DatasetDict)


def from_hub(text: str, *, channels: int = 3, column: str | None = None) -> Rows:
    """The data set hf:OWNER/NAME[/CONFIGURATION][@REVISION][:SPLIT], split "train" by default; downloads it once."""
    found = _ID.fullmatch(text.removeprefix(PREFIX))
    if found is None:
        raise ValueError(
            f"{shown(text)} is no name of a Hub data set: write hf:OWNER/NAME, as hf:uoft-cs/cifar10, and if needed "
            "/CONFIGURATION, @REVISION and :SPLIT, in this order"
        )
    package = _package()
    split = found["split"] or SPLIT
    try:
        dataset = package.load_dataset(found["path"], found["name"], split=split, revision=found["revision"])
    except Exception as error:  # of the network, the Hub, the disk, or the data set's own files
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{shown(text)} cannot be loaded ({type(error).__name__}: {said}): check the name and the network, and for "
            "a split other than train write it behind a colon, as hf:OWNER/NAME:test"
        ) from error
    return Rows(dataset, channels=channels, column=column)


def from_disk(folder: str, *, channels: int = 3, column: str | None = None) -> Rows:
    """The data set that `save_to_disk` wrote; of several splits the one called train."""
    package = _package()
    try:
        dataset = package.load_from_disk(folder)
    except Exception as error:  # whatever foreign or damaged files bring up
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"{shown(folder)} cannot be read as a data set ({type(error).__name__}: {said}): save it again, with "
            "save_to_disk"
        ) from error
    return from_dataset(dataset, channels=channels, column=column, name=folder)


def from_dataset(dataset: Any, *, channels: int = 3, column: str | None = None, name: str = "the data set") -> Rows:
    """A Dataset, or of a DatasetDict the split called train, or the only one."""
    if isinstance(dataset, _package().DatasetDict):
        splits = list(dataset)
        if SPLIT not in splits and len(splits) != 1:
            raise ValueError(f"{shown(name)} has no split called train, but {', '.join(splits)}: give one of these")
        dataset = dataset[SPLIT if SPLIT in splits else splits[0]]
    return Rows(dataset, channels=channels, column=column)


def _package() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ValueError(
            f"data sets of the Hub need a package that is not installed ({error}): pip install 'lookalike[hub]'"
        ) from error
    return datasets


def _image_column(features: Any, column: str | None) -> str:
    """The column to read: the one that is named, or the only one with the feature Image."""
    names = [name for name, feature in features.items() if isinstance(feature, _package().Image)]
    if column is None and len(names) == 1:
        return names[0]
    if column is None and names:
        raise ValueError(f"the data set has several columns of images, {', '.join(names)}: choose one with --column")
    if column is None or column not in features:
        there = ", ".join(f"{name} ({feature})" for name, feature in features.items())[:300]
        wanted = "no column of images" if column is None else f"no column {column!r}"
        raise ValueError(f"the data set has {wanted}; there are {there}: choose one with --column")
    return column


def _encoded(rows: Any, column: str) -> Any:
    """The rows with encoded images: nothing is decoded, or opened, by the package."""
    package, feature = _package(), rows.features[column]
    if isinstance(feature, package.Image):
        return rows.cast_column(column, package.Image(decode=False))
    if getattr(feature, "dtype", "") not in ("binary", "large_binary") and "bytes" not in _fields(feature):
        raise ValueError(
            f"the column {column!r} holds no encoded images, its type is {feature}: choose one with --column, "
            "or cast it to datasets.Image"
        )
    return rows


def _fields(feature: Any) -> tuple[str, ...]:
    return tuple(feature) if isinstance(feature, dict) else ()


def _sizes(images: Any) -> bytes:
    """How many bytes each image of an Arrow array has, -1 where it has none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    data = images.field("bytes") if pa.types.is_struct(images.type) else images
    return pc.fill_null(pc.binary_length(data).cast("int64"), -1).to_numpy(zero_copy_only=False).astype("<i8").tobytes()
