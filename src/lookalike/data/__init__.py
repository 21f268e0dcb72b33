"""Images from folders, lists and data sets: opened, decoded, kept in memory, labelled; nothing learned."""

from lookalike.data.cache import Cached, cached, pixels
from lookalike.data.clips import Clip, clips
from lookalike.data.copies import CopyFolder, copy_folder, holds_copies
from lookalike.data.decode import Unreadable, decode, numbers, size
from lookalike.data.descriptors import Descriptors, demand_entry, descriptors
from lookalike.data.duplicates import duplicates, merged
from lookalike.data.hub import Rows
from lookalike.data.images import Files, Folder, Images, Listing, Scalable, Source
from lookalike.data.labels import Labelled, labelled, labels
from lookalike.data.masks import Masked, MaskedFolder, masked_folder
from lookalike.data.memory import available_memory
from lookalike.data.opening import address, open_source
from lookalike.data.shards import Shards
from lookalike.data.skipped import (
    Found,
    Skipped,
    Skips,
    TooManyUnreadable,
    read_or_next,
    replace_unreadable,
    still_unreadable,
)
from lookalike.data.stored import stored
from lookalike.data.uris import Uris
from lookalike.data.wrapped import Wrapped

__all__ = [
    "Cached",
    "Clip",
    "CopyFolder",
    "Descriptors",
    "Files",
    "Folder",
    "Found",
    "Images",
    "Labelled",
    "Listing",
    "Masked",
    "MaskedFolder",
    "Rows",
    "Scalable",
    "Shards",
    "Skipped",
    "Skips",
    "Source",
    "TooManyUnreadable",
    "Unreadable",
    "Uris",
    "Wrapped",
    "address",
    "available_memory",
    "cached",
    "clips",
    "copy_folder",
    "decode",
    "demand_entry",
    "descriptors",
    "duplicates",
    "holds_copies",
    "labelled",
    "labels",
    "masked_folder",
    "merged",
    "numbers",
    "open_source",
    "pixels",
    "read_or_next",
    "replace_unreadable",
    "size",
    "still_unreadable",
    "stored",
]
