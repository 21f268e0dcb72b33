"""A score that carries its protocol, and refuses to be compared with one measured otherwise."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from statistics import NormalDist
from typing import Any

from jaxtyping import Bool, Float64
from torch import Tensor

SHORT = {"temperature": "T"}  # how a line abbreviates a setting


def mean_interval(values_M: Float64[Tensor, "M"], confidence: float = 0.95) -> tuple[float, float]:
    """The normal interval of a mean of values between 0 and 1 that are no plain yes or no, within [0, 1].

    Like Wilson's it covers the draw of the M test samples only.
    """
    mean, error = float(values_M.mean()), float(values_M.std(correction=0)) / math.sqrt(len(values_M))
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return max(0.0, mean - half), min(1.0, mean + half)


def interval(correct: int, N: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a proportion (1927): honest near 0 and 1, never outside [0, 1].

    It covers the draw of the N test samples only, not seeds of training. ValueError unless 0 <= correct <=
    N, N >= 1.
    """
    if not 0 <= correct <= N or N < 1:
        raise ValueError(f"{correct} of {N} is no count of correct answers")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p, squared = correct / N, z * z / N
    middle = (p + squared / 2) / (1 + squared)
    half = z * math.sqrt(p * (1 - p) / N + squared / (4 * N)) / (1 + squared)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a probe that names classes gives. hits: for each test image, in order, whether its class was named."""

    hits: Bool[Tensor, "M"] = field(compare=False, repr=False)
    n_train: int

    @property
    def n_test(self) -> int:
        return len(self.hits)

    @property
    def correct(self) -> int:
        return int(self.hits.sum())

    @property
    def accuracy(self) -> float:
        return self.correct / self.n_test

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy, for the draw of the test images."""
        return interval(self.correct, self.n_test)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a number was measured. Two scores are comparable only if all of this is equal.

    probe: "knn", "linear", "uAP" ...; features: the layer; crop: the view that the encoder saw, "" if
    unknown; online: while training, instead of on the finished encoder; n_train, n_test: images used;
    settings: the probe's own, {"k": 200, "temperature": 0.1}.
    """

    probe: str
    n_train: int
    n_test: int
    features: str = "backbone"
    crop: str = ""
    online: bool = False
    settings: Mapping[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Score:
    """A value between 0 and 1, how it was measured, and of what.

    interval: 95 %; seed and epochs: of the pretraining; backbone: its fingerprint, "" for none. found: what the probe
    chose or saw besides, {"penalty": 0.01}; each (M,): what each test image adds to the value, in order.
    """

    value: float
    protocol: Protocol
    interval: tuple[float, float] | None = None
    seed: int | None = None
    epochs: float | None = None
    backbone: str = ""
    found: Mapping[str, float | int | str] = field(default_factory=dict)
    each: Float64[Tensor, "M"] | None = field(default=None, compare=False, repr=False)

    @property
    def name(self) -> str:
        return self.protocol.probe

    def comparable(self, other: "Score") -> bool:
        """True if both were measured in the same way; seed, epochs and backbone may differ."""
        return not self.differences(other)

    def differences(self, other: "Score") -> dict[str, tuple[object, object]]:
        """What differs in the protocols: name -> (here, there)."""
        here, there = _flat(self.protocol), _flat(other.protocol)
        names = {**here, **there}
        return {n: (here.get(n), there.get(n)) for n in names if here.get(n) != there.get(n)}

    def line(self) -> str:
        """For example: knn 49.4 % (k=200, T=0.1, backbone features, offline, 10000/10000 images, seed 0)."""
        p = self.protocol
        parts = [f"{SHORT.get(name, name)}={value}" for name, value in p.settings.items()]
        parts += [f"{p.features} features"] + [p.crop] * bool(p.crop) + ["online" if p.online else "offline"]
        parts += [f"{p.n_train}/{p.n_test} images"]
        parts += [] if self.epochs is None else [f"{self.epochs:g} epoch{'s' * (self.epochs != 1)}"]
        parts += [] if self.seed is None else [f"seed {self.seed}"]
        parts += [] if self.interval is None else ["95 %: {:.1f} to {:.1f}".format(*(100 * x for x in self.interval))]
        parts += [f"{name}={brief(value)}" for name, value in self.found.items()]
        return f"{p.probe} {100 * self.value:.1f} % ({', '.join(parts)})"

    def as_dict(self) -> dict[str, object]:
        """For JSON: name, value, every field of the protocol with its settings, the model's; apart, what was found."""
        protocol = {name: value for name, value in _flat(self.protocol).items() if name != "probe"}
        interval = None if self.interval is None else list(self.interval)
        model = {"seed": self.seed, "epochs": self.epochs, "backbone": self.backbone}
        apart = {"found": dict(self.found)} if self.found else {}
        return {"name": self.name, "value": self.value, "interval": interval, **protocol, **model, **apart}

    @classmethod
    def from_dict(cls, flat: Mapping[str, Any]) -> "Score":
        """The score of which `as_dict` gave `flat`. Raises KeyError where one of its own entries is missing."""
        own = {name: flat[name] for name in ("value", "seed", "epochs", "backbone")} | {"found": flat.get("found", {})}
        of_protocol = {f.name for f in fields(Protocol)} - {"probe", "settings"}
        known = {name: value for name, value in flat.items() if name in of_protocol}
        settings = {n: v for n, v in flat.items() if n not in {"name", "interval", *own, *known}}
        interval = None if flat["interval"] is None else tuple(flat["interval"])
        protocol = Protocol(probe=flat["name"], settings=settings, **known)
        return cls(protocol=protocol, interval=interval, **own)


def brief(value: float | int | str) -> str:
    """As a line shows it: numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def compare(a: Score, b: Score) -> float:
    """a's value less b's. ValueError, with what differs, if they were not measured in the same way."""
    differences = a.differences(b)
    if differences:
        named = "; ".join(f"{name} {here!r} and {there!r}" for name, (here, there) in differences.items())
        raise ValueError(f"{a.name} and {b.name} are not comparable: {named}; measure both in the same way")
    return a.value - b.value


def _flat(protocol: Protocol) -> dict[str, object]:
    own = {f.name: getattr(protocol, f.name) for f in fields(protocol) if f.name != "settings"}
    return {**own, **protocol.settings}
