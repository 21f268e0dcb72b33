"""Benchmarks of copies: the names of both releases, queries without a reference, and every kind of damage."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookalike.data import copy_folder, holds_copies


def write(root: Path, parts: Mapping[str, Sequence[str]], truth: str, name: str = "ground_truth.csv") -> Path:
    """Folders of one-colored images, and a ground truth."""
    for part, images in parts.items():
        for image in images:
            path = root / part / image
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((4, 4, 3), len(image), np.uint8)).save(path)
    root.mkdir(exist_ok=True)
    (root / name).write_text(truth)
    return root


PARTS = {"query": ["Q0.jpg", "Q1.png", "Q2.jpg"], "reference": ["R0.jpg", "R1.jpg"]}


@pytest.mark.parametrize(
    ("queries", "references", "background", "truth"),
    [
        ("query", "reference", "training", "ground_truth.csv"),
        ("query_images", "reference_images", "training_images", "public_ground_truth.csv"),
        ("val_query", "val_ref", "training", "val_groundtruth_matches.csv"),
    ],
)
def test_the_names_of_the_releases(tmp_path, queries, references, background, truth):
    parts = {queries: PARTS["query"], references: PARTS["reference"], background: ["T0.jpg"]}
    root = write(tmp_path, parts, "query_id,reference_id\nQ1,R0\nQ0,R1\n", truth)
    assert holds_copies(root)
    found = copy_folder(root)
    assert found.queries.names == ["Q0.jpg", "Q1.png", "Q2.jpg"]
    assert found.truth.tolist() == [[1, 0], [0, 1]]
    assert (len(found.references), len(found.background), found.without, found.edits) == (2, 1, 1, None)


def test_a_folder_of_its_own_for_the_background_comes_first(tmp_path):
    root = write(tmp_path, {**PARTS, "training": ["T0.jpg"], "background": ["B0.jpg", "B1.jpg"]}, "Q0,R0\n")
    assert copy_folder(root).background.names == ["B0.jpg", "B1.jpg"]


def test_rows_without_a_reference_name_all_queries_that_are_asked(tmp_path):
    root = write(tmp_path, PARTS, "Q1,R0\nQ2,\n")
    found = copy_folder(root)
    assert (found.queries.names, found.truth.tolist(), found.without) == (["Q1.png", "Q2.jpg"], [[0, 0]], 1)
    assert found.background is None


def test_a_query_may_have_several_references_and_a_reference_several_queries(tmp_path):
    found = copy_folder(write(tmp_path, PARTS, "Q0,R0\nQ0,R1\nQ1,R1\n\n"))
    assert found.truth.tolist() == [[0, 0], [0, 1], [1, 1]]


def test_edits_of_each_query(tmp_path):
    root = write(tmp_path, PARTS, "Q0,R0\n")
    lines = [
        '{"query": "Q2", "families": ["crop", "blur"], "strengths": [3, 1], "parameters": {}}',
        '{"query": "Q0", "families": [], "strengths": []}',
        '{"query": "Q9", "families": ["crop"], "strengths": [1]}',
    ]
    (root / "edits.jsonl").write_text("\n".join(lines) + "\n")
    assert copy_folder(root).edits == [[], [], [("crop", 3), ("blur", 1)]]
    for damaged in ("{", '{"query": "Q0"}', '{"query": "Q0", "families": ["crop"], "strengths": []}', "[]"):
        (root / "edits.jsonl").write_text(damaged)
        with pytest.raises(ValueError, match=r"line 1 of .+edits.jsonl does not say which edits a query has"):
            copy_folder(root)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("", r"ground_truth.csv names no query with its reference"),
        ("query_id,reference_id\nQ0,\n", r"ground_truth.csv names no query with its reference"),
        ("Q0,R0\nQ7,R0\nQ8,R0\n", r"names the query 'Q7', and there is no such image \(missing: 2\)"),
        ("Q0,R5\nQ1,R5\n", r"names the reference 'R5', and there is no such image \(missing: 1\)"),
        ("Q9,\nQ0,R0\n", r"names the query 'Q9', and there is no such image"),
        ("Q0,R0\nQ0,R0\n", r"repeats 1 of its 2 pairs: name each once"),
        ("Q0;R0\n", r"line 1 of .+ground_truth.csv is 'Q0;R0': write query_id,reference_id"),
        ("Q0,R0\nQ0,R0,0.5\n", r"line 2 of "),
        (",R0\n", r"line 1 of "),
    ],
)
def test_a_ground_truth_that_cannot_be_used(tmp_path, truth, message):
    with pytest.raises(ValueError, match=message):
        copy_folder(write(tmp_path, PARTS, truth))


def test_a_ground_truth_that_is_no_text(tmp_path):
    root = write(tmp_path, PARTS, "")
    (root / "ground_truth.csv").write_bytes(b"\xff\xfe\x00Q")
    with pytest.raises(ValueError, match=r"ground_truth.csv cannot be read as text"):
        copy_folder(root)


@pytest.mark.parametrize(("lost", "what"), [("query", "queries"), ("reference", "references")])
def test_a_folder_that_has_lost_a_part(tmp_path, lost, what):
    root = write(tmp_path, {name: images for name, images in PARTS.items() if name != lost}, "Q0,R0\n")
    assert holds_copies(root)
    with pytest.raises(ValueError, match=f"holds a benchmark of copies that lacks the {what} "):
        copy_folder(root)
    (root / "ground_truth.csv").unlink()
    assert not holds_copies(root)
    with pytest.raises(ValueError, match=f"holds no benchmark of copies, it lacks the {what} .* and the ground truth "):
        copy_folder(root)


def test_a_place_that_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    for name, fault in (("nowhere", "does not exist"), ("file", "is a file")):
        with pytest.raises(ValueError, match=f"{name} {fault}: give a folder with query/"):
            copy_folder(tmp_path / name)


def test_edits_that_are_no_text(tmp_path):
    root = write(tmp_path, PARTS, "Q0,R0\n")
    (root / "edits.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"edits.jsonl cannot be read as text .*: build the benchmark again"):
        copy_folder(root)


def test_two_images_of_one_id(tmp_path):
    root = write(tmp_path, {**PARTS, "reference": ["R0.jpg", "more/R0.png"]}, "Q0,R0\n")
    with pytest.raises(ValueError, match=r"holds 'R0.jpg' and 'more/R0.png', which have the same id: rename one"):
        copy_folder(root)
