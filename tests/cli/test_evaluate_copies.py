"""lookalike evaluate --protocol copy and disc21 on a tiny benchmark: equal to the parts, for one network and two."""

import contextlib
import io
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command import lookalike, mistake, write_images
from PIL import Image
from torch import Tensor, nn

from lookalike.api import Report, evaluate
from lookalike.api.copies import copies
from lookalike.api.copy_benchmark import build_copy_benchmark
from lookalike.api.folder import RunFolder
from lookalike.api.haystack import whole
from lookalike.api.leaks import leaks
from lookalike.api.sides import Sides, roles
from lookalike.cli.copies_tables import show_copies
from lookalike.data import Folder, copy_folder, open_source
from lookalike.evaluation import EditRow, Protocol, Score, copy_detection, extract, whitening
from lookalike.functional.normalization import ISC2021, SSCD
from lookalike.training.progress import Line

CHEAP = ["random weights", "raw pixels", "pHash", "dHash", "color histogram"]


@pytest.fixture(scope="session")
def benchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 references, 12 background images, 8 queries: four mirrored references, four others. Not to be changed."""
    root = tmp_path_factory.mktemp("copies")
    write_images(root / "reference", 12)
    write_images(root / "training", 12, first=100)
    write_images(root / "query", 4, first=200)
    lines, edits = ["query_id,reference_id"], []
    for number in range(4):
        with Image.open(root / "reference" / f"{number:03}.png") as image:
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(root / "query" / f"Q{number}.png")
        lines.append(f"Q{number},{number:03}")
        edits.append({"query": f"Q{number}", "families": ["flip"], "strengths": [1], "parameters": {}})
    (root / "ground_truth.csv").write_text("\n".join(lines) + "\n")
    (root / "edits.jsonl").write_text("".join(json.dumps(one) + "\n" for one in edits))
    return root


@pytest.fixture
def own_benchmark(benchmark: Path, tmp_path: Path) -> Path:
    """A copy of the benchmark, to be damaged."""
    return Path(shutil.copytree(benchmark, tmp_path / "copies"))


def rows(encoder: nn.Module, folder: Path, size: int = 16) -> Tensor:
    images = Folder(folder)
    pixels = whole([images.read(i) for i in range(len(images))], size)
    return extract(encoder, [(torch.arange(len(images)), pixels)]).rows


def test_scores_are_those_of_rows_extracted_here(finished, benchmark):
    report = evaluate(finished, benchmark, protocols="copy", references=False)
    encoder = RunFolder(finished).encoder()
    query, reference, background = (rows(encoder, benchmark / part) for part in ("query", "reference", "training"))
    truth = torch.tensor([[4 + n, n] for n in range(4)])  # 200.png to 203.png come before Q0.png
    fitted = whitening(background, 256)
    white = [fitted(part) for part in (query, reference, background)]
    expected = [
        copy_detection(query, reference, truth),
        copy_detection(query, reference, truth, background_rows=background, normalization=SSCD),
        copy_detection(query, reference, truth, background_rows=background, normalization=ISC2021),
        copy_detection(*white[:2], truth, background_rows=white[2], normalization=SSCD),
    ]
    found = report.scores["trained"]
    assert [score.value for score in found] == [result.uap for result in expected]
    assert [score.found["recall@1"] for score in found] == [result.recall(1) for result in expected]
    assert [score.protocol.settings["normalization"] for score in found] == ["none", "1[0,2]", "2[9,9]", "1[0,2]"]
    assert [score.protocol.settings["dim"] for score in found] == [128, 128, 128, fitted.dim]
    assert found[0].protocol.crop == "whole image 16 px"
    low, high = found[0].interval
    assert low <= found[0].value <= high


def test_the_last_line_says_what_was_measured_and_cheap_references_stand_beside_it(own_run, benchmark, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")  # of the terminal
    said = lookalike("evaluate", own_run, "--data", benchmark, "--protocol", "copy")
    assert said.code == 0, said.err
    assert "8 queries, 4 of them without an original, look for 4 true pairs among 12 references" in said.err
    *_, last = said.out.splitlines()
    (entry,) = json.loads((own_run / "evaluation.json").read_text())
    assert list(entry["scores"]) == ["trained", *CHEAP]
    first = entry["scores"]["trained"][0]
    assert last.startswith(f"uAP {100 * first['value']:.1f} % (normalization=none, whitening=none, dim=128, pairs=4")
    assert "whole image 16 px, offline, 12/8 images" in last
    verdicts = [line for line in said.out.splitlines() if re.match(r"uAP \(.+\): (not )?(worth it|clear): ", line)]
    assert len(verdicts) == 4
    values = {name: scores[0]["value"] for name, scores in entry["scores"].items()}
    assert values["color histogram"] == 1  # a mirrored image has the same colors
    assert entry["worth"][0]["reference"] == "color histogram"
    assert entry["worth"][0]["gain"] == pytest.approx(values["trained"] - 1)
    group, every, one = entry["edits"]
    assert (group["family"], group["strength"], group["pairs"]) == ("not held out", None, 4)
    assert (every["family"], every["strength"], one["strength"], every["pairs"]) == ("flip", None, 1, 4)
    assert every["uap"] == first["value"]  # all pairs, and all queries without an original
    assert every["false_positives"] is None
    shares = [f"{100 * every[name]:.1f}" for name in ("uap", "recall_90", "recall_1")]
    assert re.search(rf"flip +4 +{' +'.join(shares)} +{shares[0]} ", said.out)
    assert re.search(r"color histogram +none +512 +100\.0 +100\.0 to 100\.0 +100\.0 +100\.0 +100\.0 +0\.0", said.out)


def test_tables_fit_80_columns_with_whole_heads(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    settings = {"normalization": "1[0,2]", "whitening": "PCAW256", "dim": 2048}
    found = dict.fromkeys(("recall@P90", "recall@1", "recall@10", "false positives"), 1.0)
    protocol = Protocol(probe="uAP", n_train=1, n_test=1, settings=settings)
    score = Score(value=1.0, protocol=protocol, interval=(1.0, 1.0), found=found)
    measures = dict.fromkeys(("uap", "recall_90", "recall_1", "false_positives"), 1.0)
    edits = [EditRow(family="not held out", strength=at, pairs=99_999, **measures) for at in (None, 1, 2, 3, 4, 5)]
    show_copies(Report({"trained": [score], "timm:resnet18.a1_in1k": [score]}, edits=edits))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    said = [" ".join(line.split()) for line in lines]
    assert "encoder normalization dim uAP % interval @P90 @1 @10 positives" in said
    assert "edit copies uAP % @P90 @1 positives at 1 at 2 at 3 at 4 at 5" in said
    assert "not held out 99999" + 9 * " 100.0" in said
    assert "trained 1[0,2], 2048 100.0 100.0 to" + 5 * " 100.0" in said


def test_a_second_evaluation_gives_the_same_scores(own_run, benchmark):
    for _ in range(2):
        said = lookalike("evaluate", own_run, "--data", benchmark, "--protocol", "copy", "--no-references")
        assert said.code == 0, said.err
    first, second = json.loads((own_run / "evaluation.json").read_text())
    assert first["scores"] == second["scores"]


def test_a_run_of_two_roles_describes_queries_with_one_and_references_with_the_other(own_run, benchmark):
    own = RunFolder(own_run)
    encoder, other = own.encoder(), own.encoder()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.05)
    for path in own_run.glob("encoder.*"):
        path.unlink()
    own.finish({"query": encoder, "key": other}, own.recipe())
    said = lookalike("evaluate", own_run, "--data", benchmark, "--protocol", "copy", "--no-references")
    assert said.code == 0, said.err
    (entry,) = json.loads((own_run / "evaluation.json").read_text())
    truth = torch.tensor([[4 + n, n] for n in range(4)])
    expected = copy_detection(rows(encoder, benchmark / "query"), rows(other, benchmark / "reference"), truth)
    assert entry["scores"]["trained"][0]["value"] == expected.uap
    assert len(entry["scores"]["trained"][0]["backbone"].split()) == 2
    assert f"next: lookalike embed {own_run} FOLDER --role key --out rows.parquet" in said.out
    write_images(Path("photos"), 2)
    assert lookalike("embed", own_run, "photos", "--role", "key", "--out", "rows.parquet").code == 0


def test_roles_of_a_run():
    query, key = nn.Identity(), nn.Flatten()
    assert roles({"query": query, "key": key}) == (query, key)
    assert roles({"encoder": key}) == (key, key)
    with pytest.raises(ValueError, match="the run holds flow, rgb: copies are found with the role encoder"):
        roles({"rgb": query, "flow": key})


class Wide(nn.Module):
    """300 dimensions, of which few vary."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.float().flatten(1)[:, :300]


def test_in_the_challenge_rows_of_more_than_256_dimensions_are_reduced_on_the_background(benchmark):
    wide = Sides(name="trained", query=Wide(), reference=Wide(), size=16)
    narrow = Sides(name="narrow", query=nn.Flatten(), reference=nn.Flatten(), size=4)
    with Line(quiet=True) as line:
        found = copies(
            copy_folder(benchmark),
            [wide, narrow],
            protocol="disc21",
            device=torch.device("cpu"),
            max_bad=0.0,
            line=line,
        )
    settings = [score.protocol.settings for score in found.scores["trained"]]
    assert [one["normalization"] for one in settings] == ["none", "1[0,2]", "2[9,9]"]
    assert {one["whitening"] for one in settings} == {"PCAW256"}
    assert {one["dim"] for one in settings} == {11}  # 12 background images span so many
    assert [one.protocol.settings["dim"] for one in found.scores["narrow"]] == [48, 48, 48, 11]
    assert [(one.probe, one.reference) for one in found.worth] == [("uAP (normalization 1[0,2], PCAW256)", "narrow")]


def test_a_run_is_compared_with_rivals_that_were_scored_in_the_same_way(benchmark):
    """In the challenge a rival of more than 256 dimensions has other columns than a narrow run."""
    small = Sides(name="trained", query=nn.Flatten(), reference=nn.Flatten(), size=2)
    wide = Sides(name="wide", query=Wide(), reference=Wide(), size=16)
    with Line(quiet=True) as line:
        found = copies(
            copy_folder(benchmark), [small, wide], protocol="disc21", device=torch.device("cpu"), max_bad=0.0, line=line
        )
    same = {"normalization": "1[0,2]", "whitening": "PCAW256"}
    white = {
        name: [score.value for score in scores if same.items() <= score.protocol.settings.items()]
        for name, scores in found.scores.items()
    }
    (one,) = found.worth
    assert (one.probe, one.reference) == ("uAP (normalization 1[0,2], PCAW256)", "wide")
    assert [one.gain] == [white["trained"][0] - white["wide"][0]]


def entry(file: str, encoder: nn.Module, benchmark: Path) -> str:
    """A descriptor file of the benchmark's images, the last one first."""
    with h5py.File(file, "w") as table:
        for side in ("query", "reference"):
            names = Folder(benchmark / side).names
            table[side] = rows(encoder, benchmark / side).numpy()[::-1]
            table[f"{side}_ids"] = np.array([Path(name).stem.encode() for name in reversed(names)])
    return file


def test_a_descriptor_file_stands_beside_the_run(own_run, own_benchmark):
    file = entry("entry.hdf5", RunFolder(own_run).encoder(), own_benchmark)
    (own_benchmark / "reference" / "011.png").write_bytes(b"no image")
    words = ("--data", own_benchmark, "--protocol", "disc21", "--no-references", "--max-bad", 0.2, "--reference", file)
    said = lookalike("evaluate", own_run, *words)
    assert said.code == 0, said.err
    (kept,) = json.loads((own_run / "evaluation.json").read_text())
    own, (given,) = kept["scores"]["trained"], kept["scores"][file]
    assert (given["normalization"], given["whitening"], given["dim"], given["references"]) == ("none", "none", 128, 11)
    assert given["value"] == own[0]["value"]
    ((reference, gain),) = [(one["reference"], one["gain"]) for one in kept["worth"]]
    assert (reference, gain) == (file, 0)


def test_a_descriptor_file_of_too_many_dimensions(own_run, benchmark):
    words = ("--data", benchmark, "--protocol", "disc21", "--reference", entry("wide.hdf5", Wide(), benchmark))
    text = mistake("evaluate", own_run, *words)
    assert text.startswith("wide.hdf5 holds descriptors of 300 dimensions, and the challenge takes 256 at the most:")


class Constant(nn.Module):
    """The same row for every image."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.ones(len(pixels), self.dim)


def test_a_model_whose_rows_are_all_equal_has_no_whitened_column(benchmark):
    collapsed, wide = (Sides(name="flat", query=Constant(dim), reference=Constant(dim), size=2) for dim in (3, 300))

    def found(trained: Sides, other: Sides):
        models, place = [replace(trained, name="trained"), other], torch.device("cpu")
        with contextlib.redirect_stderr(io.StringIO()) as err, Line(quiet=False) as line:
            scores = copies(copy_folder(benchmark), models, protocol="disc21", device=place, max_bad=0.0, line=line)
        return scores.scores, " ".join(err.getvalue().split())

    small = Sides(name="trained", query=nn.Flatten(), reference=nn.Flatten(), size=2)
    scores, said = found(small, collapsed)
    assert [len(scores[name]) for name in ("trained", "flat")] == [4, 3]
    assert "flat gives all background images the same row: what is whitened is left out" in said
    assert list(found(small, wide)[0]) == ["trained"]
    with pytest.raises(ValueError, match="the run gives all background images the same row"):
        found(wide, collapsed)


def test_an_unreadable_image_and_its_pair_are_left_out(finished, own_benchmark):
    (own_benchmark / "query" / "Q3.png").write_bytes(b"no image")
    (own_benchmark / "reference" / "011.png").write_bytes(b"no image")
    report = evaluate(finished, own_benchmark, protocols="disc21", references=False, max_bad=0.2)
    first = report.scores["trained"][0].protocol
    assert (first.n_test, first.settings["pairs"], first.settings["references"]) == (7, 3, 11)
    assert report.edits[0].pairs == 3


def test_a_benchmark_of_whose_true_pairs_none_can_be_read(own_benchmark):
    for number in range(4):
        (own_benchmark / "query" / f"Q{number}.png").write_bytes(b"no image")
    small = Sides(name="trained", query=nn.Flatten(), reference=nn.Flatten(), size=2)
    folder, place = copy_folder(own_benchmark), torch.device("cpu")
    with Line(quiet=True) as line, pytest.raises(ValueError, match="all 4 true pairs have an unreadable image: check"):
        copies(folder, [small], protocol="copy", device=place, max_bad=0.9, line=line)


def test_queries_without_any_original_are_fine_and_a_ground_truth_without_pairs_is_not(own_run, own_benchmark):
    truth = own_benchmark / "ground_truth.csv"
    truth.write_text("Q0,000\n")
    said = lookalike("evaluate", own_run, "--data", own_benchmark, "--protocol", "disc21", "--no-references")
    assert said.code == 0, said.err
    assert "8 queries, 7 of them without an original" in said.err
    truth.write_text("query_id,reference_id\nQ0,\n")
    text = mistake("evaluate", own_run, "--data", own_benchmark, "--protocol", "disc21")
    assert text == f"{truth} names no query with its reference, so there is nothing to find: add some"


def test_a_ground_truth_that_names_an_unknown_file(own_run, own_benchmark):
    (own_benchmark / "query" / "Q2.png").unlink()
    text = mistake("evaluate", own_run, "--data", own_benchmark, "--protocol", "copy")
    assert "names the query 'Q2', and there is no such image (missing: 1): add it, or take its lines out" in text


def test_no_background_and_a_small_one(own_run, own_benchmark):
    shutil.rmtree(own_benchmark / "training")
    words = ("evaluate", own_run, "--data", own_benchmark, "--protocol", "copy", "--no-references")
    assert mistake(*words).startswith("there are 0 background images, and score normalization and whitening need 3 or")
    write_images(own_benchmark / "training", 2, first=100)
    assert mistake(*words).startswith("there are 2 background images")
    write_images(own_benchmark / "training", 5, first=100)
    said = lookalike(*words)
    assert said.code == 0, said.err
    assert "uAP (normalization 2[9,9]) reads 10 background images, and there are 5: it is left out" in said.err
    (entry,) = json.loads((own_run / "evaluation.json").read_text())
    assert [score["normalization"] for score in entry["scores"]["trained"]] == ["none", "1[0,2]", "1[0,2]"]


def test_photos_become_a_benchmark_once(own_run, tmp_path):
    photos = write_images(tmp_path / "photos", 24)
    words = ("evaluate", own_run, "--data", photos, "--protocol", "copy", "--no-references")
    first, again, elsewhere = lookalike(*words), lookalike(*words), lookalike(*words, "--out", "copies")
    assert [said.code for said in (first, again, elsewhere)] == [0, 0, 0], first.err + again.err + elsewhere.err
    assert "holds this benchmark already" in " ".join(again.err.split())
    assert "holds this benchmark already" not in " ".join(elsewhere.err.split())
    one, two, three = json.loads((own_run / "evaluation.json").read_text())
    assert one["scores"] == two["scores"] == three["scores"]
    assert one["edits"] == two["edits"] == three["edits"]
    built = copy_folder(own_run / "copy-benchmark")
    assert 0 < built.without < len(built.queries)
    assert sum(map(bool, built.edits)) > len(built.queries) / 2
    groups, families = one["edits"][:2], {row["family"] for row in one["edits"][2:]}
    assert [row["family"] for row in groups] == ["held out", "not held out"]
    assert sum(row["pairs"] for row in groups) == len(built.truth)
    assert families == {family for edits in built.edits for family, _ in edits}
    # the folder may be given itself, and then nothing is built
    report = evaluate(own_run, tmp_path / "copies", protocols="copy", references=False)
    assert [score.value for score in report.scores["trained"]] == [score["value"] for score in one["scores"]["trained"]]


def test_a_descriptor_file_that_is_not_there_is_told_before_anything_is_built(own_run, photos):
    words = ("evaluate", own_run, "--data", photos, "--protocol", "copy", "--out", "copies")
    assert mistake(*words, "--reference", "none.hdf5") == "none.hdf5 does not exist: give a descriptor file"
    assert not Path("copies").exists()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A benchmark that was built of photos. Not to be changed."""
    root = tmp_path_factory.mktemp("built")
    return build_copy_benchmark(write_images(root / "photos", 24), root / "copies", side=32)


@pytest.mark.parametrize("protocol", ["copy", "disc21"])
def test_a_benchmark_that_has_changed_is_not_measured(own_run, built, tmp_path, protocol):
    place = Path(shutil.copytree(built, tmp_path / "copies"))
    (place / "references" / "R000001.jpg").unlink()
    text = mistake("evaluate", own_run, "--data", place, "--protocol", protocol)
    assert text.startswith(f"{place / 'references' / 'R000001.jpg'} is gone since it was built: undo that, or remove")


@pytest.mark.parametrize(("lost", "what"), [("references", "the references"), ("ground_truth.csv", "the ground truth")])
def test_a_benchmark_that_has_lost_a_part_is_not_taken_for_photos(own_run, built, tmp_path, lost, what):
    place = Path(shutil.copytree(built, tmp_path / "copies"))
    (place / "manifest.json").unlink()
    shutil.rmtree(place / lost) if (place / lost).is_dir() else (place / lost).unlink()
    text = mistake("evaluate", own_run, "--data", place, "--protocol", "copy")
    assert text.startswith(f"{place} holds a benchmark of copies that lacks {what} (")
    assert not (own_run / "copy-benchmark").exists()


def test_a_run_that_was_trained_on_the_photos_is_told_and_noted(own_run, benchmark, tmp_path):
    """By the same folder, one in the other, or the same files; training/ of a benchmark is there to be trained on."""
    own, photos = RunFolder(own_run), write_images(tmp_path / "photos", 12)
    began = own.manifest()

    def warned(data: Path, trained: str, identity: str = "another") -> list[str]:
        (own_run / "manifest.json").write_text(json.dumps({**began, "data": trained, "identity": identity}))
        with contextlib.redirect_stderr(io.StringIO()) as err, Line(quiet=False) as line:
            found = leaks({"trained": own, "resnet": None}, data, copy_folder(place), line)
        assert ("warning: trained was trained on photos of this benchmark" in " ".join(err.getvalue().split())) == bool(
            found
        )
        return found

    place = build_copy_benchmark(photos, tmp_path / "built")
    (tmp_path / "link").symlink_to(photos)
    for trained in ("photos", "photos/some", ".", "link"):
        assert warned(photos, str(tmp_path / trained)) == ["trained"]
    assert warned(place, str(tmp_path / "built" / "references")) == ["trained"]
    assert warned(place, "/elsewhere", open_source(photos).identity()) == ["trained"]
    assert warned(place, str(tmp_path / "built" / "training")) == []
    assert warned(photos, str(tmp_path / "photographs")) == []
    assert warned(place, "hf://datasets/somebody/photos") == []
    (own_run / "manifest.json").write_text(json.dumps({**began, "data": str(benchmark)}))
    report = evaluate(own_run, benchmark, protocols="copy", references=False)
    assert {score.found["caution"] for score in report.scores["trained"]} == {"trained on these photos"}
    (own_run / "manifest.json").unlink()
    report = evaluate(own_run, benchmark, protocols="copy", references=False)
    assert not any("caution" in score.found for score in report.scores["trained"])


def test_a_place_to_build_where_nothing_is_built(own_run, benchmark, labelled):
    text = mistake("evaluate", own_run, "--data", benchmark, "--protocol", "copy", "--out", "copies")
    assert text == f"--out is where a benchmark is built, and {benchmark} is to hold one already: leave it out"
    text = mistake("evaluate", own_run, "--data", labelled, "--out", "copies")
    assert text == "--out is where copy builds its benchmark, and knn builds none: leave it out"
    write_images(Path("copies"), 2)
    text = mistake("evaluate", own_run, "--data", "copies", "--protocol", "copy")
    assert text.startswith("a benchmark of copies needs 10 different photos at least")


def test_a_folder_without_the_layout_and_protocols_that_do_not_mix(own_run, photos):
    text = mistake("evaluate", own_run, "--data", photos, "--protocol", "disc21")
    assert text.startswith(f"{photos} holds no benchmark of copies, it lacks the queries (query or queries)")
    text = mistake("evaluate", own_run, "--data", photos, "--protocol", "knn,copy")
    assert text == "the protocol copy reads other data than knn, copy together: ask for it alone"
