"""Entries of the challenge's second track: rows by id, and what no entry may be."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from lookalike.data import CopyFolder, demand_entry, descriptors
from lookalike.data.images import Files

FOLDER = CopyFolder(
    queries=Files("", ["Q2.jpg", "Q0.jpg"]),
    references=Files("", ["R1.jpg", "R0.png", "R5.jpg"]),
    background=None,
    truth=torch.tensor([[0, 0]]),
    edits=None,
)
ROWS = {
    "query": np.arange(12.0).reshape(3, 4).astype(np.float32),
    "query_ids": np.array([b"Q0", b"Q1", b"Q2"]),
    "reference": -np.arange(12.0).reshape(3, 4).astype(np.float32),
    "reference_ids": np.array([b"R0", b"R1", b"R5"]),
}


def write(path: Path, **changes: object) -> Path:
    """An entry with some data sets changed, or left out where None."""
    with h5py.File(path, "w") as file:
        for name, table in {**ROWS, **changes}.items():
            if table is not None:
                file.create_dataset(name, data=table)
    return path


def test_rows_stand_in_the_order_of_the_images(tmp_path):
    found = descriptors(write(tmp_path / "entry.hdf5"), FOLDER)
    assert found.query.tolist() == ROWS["query"][[2, 0]].tolist()
    assert found.reference.tolist() == ROWS["reference"][[1, 0, 2]].tolist()


WRONG = [
    ({"query": np.zeros((3, 257))}, "holds descriptors of 257 dimensions, and the challenge takes 256 at the most"),
    ({"query_ids": None, "reference": None}, "is no entry of the challenge, it lacks query_ids, reference: write"),
    ({"query_ids": np.array([b"Q0", b"Q1"])}, r"holds query of shape \(3, 4\) and 2 ids: write a row for each id"),
    ({"query_ids": np.float32(3)}, r"holds query of shape \(3, 4\) and ids of shape \(\): write a row for each id"),
    ({"reference": np.zeros(3)}, r"holds reference of shape \(3,\) and 3 ids: write a row for each id"),
    ({"reference": np.full((3, 4), b"a")}, r"holds reference descriptors of type \|S1: write real numbers"),
    ({"query": np.zeros((3, 5))}, "holds queries of 5 dimensions and references of 4"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG)
@pytest.mark.parametrize("images_are_known", [False, True])
def test_what_no_entry_may_be_is_said_before_the_images_are_known(tmp_path, changes, message, images_are_known):
    file = write(tmp_path / "entry.hdf5", **changes)
    with pytest.raises(ValueError, match=message):
        descriptors(file, FOLDER) if images_are_known else demand_entry(file)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference_ids": np.array([b"R0", b"R1", b"R2"])}, "lacks 1 of 3 reference images, the first 'R5'"),
        ({"query": np.full((3, 4), np.inf)}, "holds query descriptors that are not finite"),
    ],
)
def test_rows_that_no_entry_may_lack_or_hold(tmp_path, changes, message):
    demand_entry(write(tmp_path / "entry.hdf5", **changes))
    with pytest.raises(ValueError, match=message):
        descriptors(tmp_path / "entry.hdf5", FOLDER)


def test_a_file_that_is_no_hdf5(tmp_path):
    (tmp_path / "entry.hdf5").write_text("no")
    faults = {"entry.hdf5": "cannot be read as HDF5", "none.hdf5": "does not exist: give", ".": "is a folder: give"}
    for name, fault in faults.items():
        with pytest.raises(ValueError, match=fault):
            demand_entry(tmp_path / name)
