"""Curves, marks, score cards and verdict of a report, against lines written by hand."""

from dataclasses import replace
from itertools import pairwise

import pytest

from lookalike.api.report.curves import MOST, curves, thinned
from lookalike.api.report.marks import marks
from lookalike.api.report.markup import Html, filled
from lookalike.api.report.page import quoted
from lookalike.api.report.scores import Bar, Card, cards
from lookalike.api.report.verdict import beaten
from lookalike.api.symptoms import Finding


def training(step: int, **more: object) -> dict:
    return {"step": step, "phase": "train", "epoch": step / 10, "loss": 3.0, "updated": True, "skipped": 0, **more}


def reading(step: int, **more: object) -> dict:
    health = {"rows": 64, "dimensions": 32, "spread": 0.9, "rank": 20.0, "cosine": 0.1}
    return {"step": step, "probe": True, "loss": 9.9, "uniform": 4.2, **health, **more}


def test_curves_hold_each_number_once_and_in_its_order() -> None:
    rows = [
        training(10, wait=0.1),
        reading(10),
        training(20, wait=0.2, entropy=1.5),
        {"step": 20, "probe": True, "knn": 0.4},
    ]
    found = {curve.key: curve for curve in curves(rows)}
    assert list(found) == ["loss", "knn", "rank", "spread", "cosine", "wait", "entropy"]
    assert (found["loss"].steps, found["loss"].values) == ([10, 20], [3.0, 3.0])
    assert (found["wait"].values, found["wait"].percent) == ([0.1, 0.2], True)
    assert (found["entropy"].steps, found["entropy"].group) == ([20], "method")
    assert [limit.value for limit in found["loss"].limits] == [4.2]
    assert [limit.value for limit in found["rank"].limits] == [0.05 * 32]


def test_a_loss_that_is_not_finite_leaves_a_gap() -> None:
    rows = [training(1), training(2, loss=None, nonfinite=["loss"]), training(3, loss=None), training(4, loss="3")]
    (loss,) = curves(rows)
    assert (loss.steps, loss.values) == ([1, 2], [3.0, None])


def card(title: str, **values: float) -> Card:
    return Card(title, tuple(Bar(who, value) for who, value in values.items()), ())


@pytest.mark.parametrize(
    ("shown", "end"),
    [
        ([], ""),
        ([card("k-NN", trained=0.2)], ""),
        ([card("k-NN", trained=0.5, raw=0.4, random=0.3)], ""),
        ([card("k-NN", trained=0.5, raw=0.6, random=0.7)], ", no better than random (k-NN)"),
        ([card("k-NN", trained=0.5, raw=0.5)], ", no better than raw (k-NN)"),
        ([card("alone", trained=0.1), card("k-NN", trained=0.5, raw=0.4), card("other", trained=0.1, raw=0.4)], ""),
    ],
)
def test_a_headline_ends_with_the_reference_that_is_as_good(shown, end) -> None:
    assert beaten(shown) == end


def test_curves_of_nothing() -> None:
    assert curves([]) == []
    assert curves([training(1, loss=None, nonfinite=["loss"])]) == []


def test_long_curves_are_thinned_evenly() -> None:
    points = [(step, float(step)) for step in range(3 * MOST)]
    kept = thinned(points)
    assert len(kept) == MOST
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    gaps = {b[0] - a[0] for a, b in pairwise(kept)}
    assert gaps <= {3, 4}


def test_sentences_are_marked_where_they_occurred() -> None:
    rows = [
        training(10, wait=0.9),
        training(20, wait=0.1, dropped=2),
        training(30, wait=0.5),
        reading(30, collapse="step 30: collapsed."),
    ]
    found = marks(
        [
            Finding("collapse while training", "step 30: collapsed. Named while training."),
            Finding("dropped steps", "2 steps were dropped."),
            Finding("starved loader", "waits."),
            Finding("loss not falling", "flat."),
            Finding("lost manifest", "gone."),
        ],
        rows,
    )
    assert [(mark.what, mark.steps, mark.curves[:1]) for mark in found] == [
        ("collapse while training", [30], ["loss"]),
        ("dropped steps", [20], ["loss"]),
        ("starved loader", [30], ["wait"]),
        ("loss not falling", [30], ["loss"]),
        ("lost manifest", [], []),
    ]


MODEL = {"seed": 0, "epochs": 5.0, "backbone": "ab"}


def scored(value: float, **more: object) -> dict:
    score = {"name": "knn", "value": value, "interval": [value - 0.1, value + 0.1], "n_train": 1000, "n_test": 100}
    return {**score, "features": "backbone", "crop": "center 32 px", "online": False, "k": 20, **MODEL, **more}


def evaluation(value: float, **scores: object) -> dict:
    return {
        "date": "2026-01-01",
        "data": "photos",
        "scores": {"trained": [scored(value)], **scores},
    }


def test_a_card_carries_its_protocol_and_its_references() -> None:
    raw = {"raw pixels": [scored(0.3, features="pixels", backbone=""), scored(0.9, k=200)]}
    (card,) = cards([evaluation(0.5), evaluation(0.6, **raw)], [], "ab")
    assert (card.title, card.note) == ("k-NN, k = 20", "")
    assert [(bar.who, bar.value) for bar in card.bars] == [("trained", 0.6), ("raw pixels", 0.3)]
    assert card.bars[0].interval == pytest.approx((0.5, 0.7))
    terms = dict(card.protocol)
    assert terms["images"] == "1,000 train, 100 test"
    assert (terms["k"], terms["crop"], terms["epochs"], terms["data"]) == ("20", "center 32 px", "5", "photos")


def test_a_card_says_that_the_weights_are_others_now() -> None:
    (card,) = cards([evaluation(0.5)], [], "another")
    assert "other weights" in card.note


@pytest.mark.parametrize(
    "damage", [{"scores": None}, {"scores": {"trained": {}}}, {"scores": {"trained": [1, {}]}}, {}]
)
def test_entries_that_are_no_scores_are_left_out(damage) -> None:
    assert cards([damage], [], "") == []


def test_what_training_itself_saw() -> None:
    rows = [
        {"step": 9, "probe": True, "recognized/trained": 0.8, "recognized/raw pixels": 0.2},
        {"step": 9, "probe": True, "knn": 0.7, "says": "online knn 70.0 % (k=200, T=0.1)"},
    ]
    recognized, online = cards([], rows, "")
    assert [(bar.who, bar.value) for bar in recognized.bars] == [("trained", 0.8), ("raw pixels", 0.2)]
    assert dict(recognized.protocol)["labels"] == "none"
    assert (online.bars[0].value, online.note) == (0.7, "online knn 70.0 % (k=200, T=0.1)")


def test_what_is_filled_in_is_escaped_unless_it_is_markup() -> None:
    assert filled("<p>$text</p>", {"text": "<b>'\"&"}) == "<p>&lt;b&gt;&#x27;&quot;&amp;</p>"
    assert filled("<p>$text</p>", {"text": filled("<b>$n</b>", {"n": 1})}) == "<p><b>1</b></p>"
    assert filled("$name", {"name": "\udcff\u202e\x00"}) == "&#x27;\\udcff\\u202e\\x00&#x27;"
    assert isinstance(filled("$name", {"name": "$other"}), Html)
    with pytest.raises(KeyError):
        filled("$missing", {})


def test_json_in_a_script_holds_no_markup() -> None:
    assert quoted({"a": "</script><!--&"}) == '{"a":"\\u003c/script\\u003e\\u003c!--\\u0026"}'


def test_marks_stay_what_they_were() -> None:
    (mark,) = marks([Finding("lost manifest", "gone.")], [])
    assert replace(mark).as_dict() == {"what": "lost manifest", "sentence": "gone.", "steps": [], "curves": []}
