"""lookalike report: one file that needs nothing, tells what the run wrote, and stays harmless whatever names say."""

import json
import re
import shutil
import threading
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from command import TINY, lookalike, mistake, write_images

from lookalike.api import report
from lookalike.api.folder import RunFolder
from lookalike.api.report.collect import told
from lookalike.api.report.curves import KNOWN
from lookalike.api.report.scores import Bar, Card
from lookalike.api.report.verdict import verdict
from lookalike.api.report.writing import until_finished

HOSTILE = "a'\"><script>alert(1)</script>&amp;<!--.png".replace("/", "_")
FETCHING = {"src", "href", "srcset", "data", "action", "poster", "background"}


class Page(HTMLParser):
    """Elements with their attributes, and the text of each script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.scripts: list[str] = []
        self.text: list[str] = []
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self.inside = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        (self.scripts if self.inside == "script" else self.text).append(data)

    @property
    def data(self) -> dict[str, Any]:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def reported(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the finished run. Not to be changed."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    said = lookalike("report", finished, "--out", out)
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == f"next: open {out}"
    return out


def read(path: Path) -> Page:
    return Page(path.read_text())


def test_the_file_fetches_nothing(reported) -> None:
    page = read(reported)
    values = [value for _, given in page.elements for name, value in given.items() if name in FETCHING]
    assert values
    assert [value for value in values if not value.startswith(("data:", "#"))] == []
    (policy,) = (a["content"] for _, a in page.elements if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    assert not re.search(r"(?:url\(|@import|fetch\(|XMLHttpRequest|import\()", reported.read_text())
    assert [value for _, given in page.elements for value in given if value.startswith("on") or value == "style"] == []


def lines_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def write_lines(run: Path, rows: list[dict[str, Any]]) -> None:
    """The lines with a share of waiting that no machine's load decides."""
    calm = ({**row, "wait": 0.01} if "wait" in row else row for row in rows)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in calm))


def test_the_numbers_are_those_of_the_metrics(own_run) -> None:
    readings = [
        {"step": step, "probe": True, "rows": 16, "dimensions": 8, "rank": step / 3, "spread": 1 / step, "cosine": 1e-9}
        for step in (4, 8)
    ]
    write_lines(own_run, lines_of(own_run) + readings)
    report(own_run)
    rows = lines_of(own_run)
    curves = {curve["key"]: curve for curve in read(own_run / "report.html").data["curves"]}
    for key in ("loss", "rate", "gradient_norm", "images_per_second", "wait"):
        told = [(row["step"], row[key]) for row in rows if not row.get("probe")]
        assert list(zip(curves[key]["steps"], curves[key]["values"], strict=True)) == told
    for key in ("rank", "spread", "cosine"):
        told = [(row["step"], row[key]) for row in rows if row.get("probe") and key in row]
        assert list(zip(curves[key]["steps"], curves[key]["values"], strict=True)) == told
        assert told
    assert set(curves) <= set(KNOWN)


def test_the_same_run_gives_the_same_bytes(reported, finished, tmp_path) -> None:
    report(finished, out=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == reported.read_bytes()


def test_map_neighbors_and_views_show_the_training_images(reported, photos) -> None:
    page = read(reported)
    names = sorted(path.name for path in photos.iterdir())
    assert page.data["map"]["names"] == names
    assert [layout["name"] for layout in page.data["map"]["layouts"]] == ["t-SNE", "PCA"]
    text = " ".join(page.text)
    for words in ("Finished", "Random", "Typical", "Worst", "Nearest of all", "view/1", "Resolved recipe", "data hash"):
        assert words in text
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")


def test_hostile_names_and_values_are_text(own_run, tmp_path) -> None:
    images = write_images(tmp_path / "images", 12)
    (images / "003.png").rename(images / HOSTILE)
    rows = lines_of(own_run)
    rows[-1] |= {"collapse": "</script><img src=x onerror=alert(2)>", "</script><marquee>": 1.0}
    write_lines(own_run, rows)
    manifest = json.loads((own_run / "manifest.json").read_text())
    (own_run / "manifest.json").write_text(json.dumps({**manifest, "labels": "<i>'\"&"}))
    model = {"interval": None, "seed": 0, "epochs": 1.0, "backbone": "", "n_train": 1, "n_test": 1}
    score = {"name": "<u>probe</u>", "value": 0.5, "crop": '"><script>alert(3)</script>', **model}
    (own_run / "evaluation.json").write_text(json.dumps([{"data": "<s>", "scores": {"trained": [score]}}]))
    report(own_run, data=images, out=tmp_path / "page.html")
    page = read(tmp_path / "page.html")
    assert len(page.scripts) == 2
    assert {"i", "u", "s", "marquee"} & {tag for tag, _ in page.elements} == set()
    assert [given for _, given in page.elements if "onerror" in given or given.get("src") == "x"] == []
    assert HOSTILE in page.data["map"]["names"]
    assert page.data["marks"][0]["sentence"] == "</script><img src=x onerror=alert(2)>"
    text = " ".join(page.text)
    for words in ("<u>probe</u>", '"><script>alert(3)</script>', "<i>'\"&", "</script><img src=x"):
        assert words in text
    assert any(given.get("alt") == HOSTILE for tag, given in page.elements if tag == "img")


def test_the_headline_says_that_raw_pixels_are_better(own_run) -> None:
    write_lines(own_run, lines_of(own_run))
    seen = told(RunFolder(own_run), checked=False)
    cards = [Card("k-NN, k = 20", (Bar("trained", 0.3), Bar("raw pixels", 0.4)), ())]
    found = verdict(seen, [], cards, live=False)
    assert (found.tone, found.headline) == ("wary", "Finished, no better than raw pixels (k-NN, k = 20)")
    found = verdict(seen, [], [Card("k-NN", (Bar("trained", 0.5), Bar("raw pixels", 0.4)), ())], live=False)
    assert (found.tone, found.headline) == ("good", "Finished, nothing wrong found")


def test_unreadable_images_are_left_out_and_counted(finished, tmp_path) -> None:
    images = write_images(tmp_path / "images", 12)
    (images / "004.png").write_bytes(b"no image")
    done = report(finished, data=images, out=tmp_path / "page.html")
    assert (done.images, done.skipped) == (11, 1)
    page = read(tmp_path / "page.html")
    assert "004.png" not in page.data["map"]["names"]
    assert "1 could not be read" in " ".join(page.text)


def test_a_sample_is_the_same_for_the_same_run(finished, tmp_path) -> None:
    for name in ("one", "two"):
        assert report(finished, out=tmp_path / name, images=20).images == 20
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_training_images_that_have_gone_leave_curves(own_run) -> None:
    manifest = json.loads((own_run / "manifest.json").read_text())
    (own_run / "manifest.json").write_text(json.dumps({**manifest, "data": "/nowhere/photos"}))
    assert report(own_run).images == 0
    page = read(own_run / "report.html")
    assert page.data["map"] is None
    assert page.data["curves"]
    assert "lay at /nowhere/photos, which is not there" in " ".join(page.text)


def test_a_run_without_metrics(own_run) -> None:
    (own_run / "metrics.jsonl").unlink()
    report(own_run)
    page = read(own_run / "report.html")
    assert page.data["curves"] == []
    assert "There are no curves yet" in " ".join(page.text)


def test_a_run_that_was_stopped_has_views_but_no_map(unfinished) -> None:
    write_lines(unfinished, lines_of(unfinished))
    report(unfinished)
    page = read(unfinished / "report.html")
    assert page.data["map"] is None
    text = " ".join(page.text)
    assert "Not finished" in text
    assert "view/1" in text
    assert "Map and neighbors come when training has finished." in text
    assert f"lookalike pretrain --resume {unfinished}" in text


def test_changed_weights_are_said(own_run) -> None:
    write_lines(own_run, lines_of(own_run))
    card = json.loads((own_run / "encoder.json").read_text())
    (own_run / "encoder.json").write_text(json.dumps({**card, "fingerprint": "0" * 32}))
    report(own_run)
    text = " ".join(read(own_run / "report.html").text)
    assert "something is wrong (changed weights)" in text
    assert "There is no map" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nothing-here",), "nothing-here is not a run"),
        (("RUN", "--out", "."), "is a folder: name the file"),
        (("RUN", "--out", "none/page.html"), "the folder none does not exist"),
        (("RUN", "--images", "1"), "ask for 2 or more"),
        (("RUN", "--data", "nowhere"), "nowhere does not exist"),
    ],
)
def test_mistakes_are_sentences(own_run, words, sentence) -> None:
    assert sentence in mistake("report", *(own_run if word == "RUN" else word for word in words))


def test_a_file_that_cannot_be_written_leaves_the_old_page(own_run, tmp_path) -> None:
    place = tmp_path / "page.html"
    place.write_text("old")
    tmp_path.chmod(0o500)
    try:
        if shutil.os.access(tmp_path, shutil.os.W_OK):
            pytest.skip("this user may write everywhere")
        assert "cannot be written to" in mistake("report", own_run, "--out", place)
    finally:
        tmp_path.chmod(0o700)
    assert place.read_text() == "old"


def test_watch_follows_a_run_to_its_end(unfinished, finished) -> None:
    page, lines = unfinished / "report.html", (finished / "metrics.jsonl").read_text().splitlines(keepends=True)
    (unfinished / "metrics.jsonl").write_text("".join(lines[:2]))
    watch = threading.Thread(target=lambda: report(unfinished, watch=True), daemon=True)
    watch.start()
    first = awaited(lambda: page.exists() and read(page).data)
    assert first["live"]
    assert "Training" in page.read_text()
    (unfinished / "metrics.jsonl").write_text("".join(lines))
    for path in finished.glob("encoder.*"):
        shutil.copy(path, unfinished)
    shutil.copytree(finished / "checkpoints" / "step-00000008", unfinished / "checkpoints" / "step-00000008")
    (unfinished / "checkpoints" / "latest").write_text("step-00000008\n")
    watch.join(timeout=60)
    assert not watch.is_alive()
    last = read(page).data
    assert not last["live"]
    assert last["map"]["names"]
    assert len(last["curves"][0]["steps"]) > len(first["curves"][0]["steps"])


def test_watch_writes_once_for_each_growth_and_stands_still_after_ctrl_c(unfinished) -> None:
    written: list[bool] = []
    metrics = unfinished / "metrics.jsonl"

    def write(live: bool) -> None:
        written.append(live)
        if len(written) == 2:
            raise KeyboardInterrupt
        if live:
            metrics.write_text(metrics.read_text() + '{"step": 7}\n')

    with pytest.raises(KeyboardInterrupt):
        until_finished(RunFolder(unfinished), write, say=lambda text: None, seconds=0.0)
    assert written == [True, True, False]


def awaited(seen: Any) -> Any:
    """What `seen` returns once it is true, within a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if found := seen():
            return found
        time.sleep(0.05)
    raise AssertionError("nothing came")


def test_gray_images_and_folders_by_color(tmp_path) -> None:
    for name in ("cat", "dog"):
        write_images(tmp_path / "images" / name, 16, first=20 * (name == "dog"))
    run = tmp_path / "gray"
    said = lookalike("pretrain", tmp_path / "images", *TINY, "--out", run, "--channels", "1")
    assert said.code == 0, said.err
    report(run)
    world = read(run / "report.html").data["map"]
    assert world["groups"]["names"] == ["cat", "dog"]
    assert world["groups"]["of"] == [0] * 16 + [1] * 16
