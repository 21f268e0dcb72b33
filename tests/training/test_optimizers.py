"""Optimizers against slow loops in double precision; groups, rates and decay; state that comes back bit by bit."""

import math

import pytest
import torch
from torch import nn

from lookalike.functional.schedules import Clock, Constant, Cosine, Warmup
from lookalike.methods.method import Group, Method, Phase
from lookalike.training.checkpoint import load_weights, save_weights
from lookalike.training.optimizers import (
    LARS,
    Optimization,
    flat_state,
    hide_frozen,
    linear_scaled,
    load_flat_state,
    norm_parameters,
    sqrt_scaled,
)


class Small(Method):
    """A body with BatchNorm, a head, and a temperature; `special` is what groups() says."""

    def __init__(self, special: dict[str, Group] | None = None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5))
        self.body(torch.zeros(1, 3, 5, 5))
        self.head = nn.Linear(5, 4)
        self.temperature = nn.Parameter(torch.tensor(0.5))
        self.special = special or {}

    def plan(self, epochs):
        return [Phase(name="train", epochs=epochs, trains=("body", "head"), reads=("a",))]

    def forward(self, batch):
        raise NotImplementedError

    def exports(self):
        return {"encoder": self.body}

    def groups(self):
        return self.special

    def learn(self, optimizer: torch.optim.Optimizer, step: int, *, without: str = "") -> None:
        """One update on data that depend on the step alone."""
        images = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(step))
        loss = (self.head(self.body(images.to(self.temperature.dtype))) * self.temperature).square().mean()
        optimizer.zero_grad()
        loss.backward()
        for name, parameter in self.named_parameters():
            if without and name.startswith(without):
                parameter.grad = None
        optimizer.step()


def built(optimization: Optimization, method: Small) -> torch.optim.Optimizer:
    return optimization.build(dict(method.named_parameters()), method)


def group_of(optimizer: torch.optim.Optimizer, name: str) -> dict:
    (found,) = [group for group in optimizer.param_groups if name in group["names"]]
    return found


CLOCK = Clock(step=30, steps=100, epoch=3.0, epochs=10.0)


def at(step: int) -> Clock:
    """A moment of a run of ten epochs of ten steps."""
    return Clock(step=step, steps=100, epoch=step / 10, epochs=10.0)


# LARS ------------------------------------------------------------------------------------------------------------


def lars_by_hand(w: list, g: list, v: list, *, lr, mu, wd, eta, inside, apart=False, adapt=True) -> tuple[list, list]:
    """One step of one tensor, with floats in lists."""
    length = lambda x: math.sqrt(sum(number * number for number in x))  # noqa: E731
    decayed = [b + wd * a for a, b in zip(w, g, strict=True)]
    below = length(g) + wd * length(w) if apart else length(decayed)
    zero = length(w) == 0 or length(g if apart else decayed) == 0
    if zero and apart and adapt:
        decayed = g
    ratio = 1.0 if zero or not adapt else eta * length(w) / below
    if inside:
        v = [mu * c + lr * ratio * d for c, d in zip(v, decayed, strict=True)]
        return [a - c for a, c in zip(w, v, strict=True)], v
    v = [mu * c + ratio * d for c, d in zip(v, decayed, strict=True)]
    return [a - lr * c for a, c in zip(w, v, strict=True)], v


@pytest.mark.parametrize("rate", ["inside", "outside"])
def test_lars_by_numbers_one_can_check(rate):
    """g' = (.9, 1.2), ratio = .001 * 5 / 1.5: the first step is the same in both forms."""
    w = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    w.grad = torch.tensor([0.6, 0.8], dtype=torch.float64)
    LARS([w], lr=1.0, weight_decay=0.1, eta=1e-3, rate=rate).step()
    torch.testing.assert_close(w.data, torch.tensor([2.997, 3.996], dtype=torch.float64), rtol=0, atol=1e-15)


def test_lars_forms_differ_once_the_rate_changes():
    """With no decay and a constant gradient, the first velocity enters the second step at its old or its new rate."""
    ends = {}
    for rate in ("inside", "outside"):
        w = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
        optimizer = LARS([w], lr=1.0, eta=1e-3, momentum=0.9, rate=rate)
        for lr in (1.0, 0.1):
            optimizer.param_groups[0]["lr"] = lr
            w.grad = torch.tensor([0.6, 0.8], dtype=torch.float64)
            optimizer.step()
        ends[rate] = w.detach().norm().item()
    # |w| 5 -> 4.995; velocity .005 at rate 1, then .9 * .005 (times .1 outside) + .1 * .001 * 4.995
    assert ends["inside"] == pytest.approx(4.995 - (0.9 * 0.005 + 0.1 * 0.004995), abs=1e-14)
    assert ends["outside"] == pytest.approx(4.995 - 0.1 * (0.9 * 0.005 + 0.004995), abs=1e-14)


@pytest.mark.parametrize("norms", ["joint", "apart"])
@pytest.mark.parametrize("rate", ["inside", "outside"])
def test_lars_against_a_slow_loop(rate, norms):
    """Changing rate, zero weights, zero gradients, a tensor left out now and then, a group that does not adapt."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(3, 4), (5,), (2, 2, 2), (4,), (6,)]
    weights = [nn.Parameter(torch.randn(s, generator=draw, dtype=torch.float64)) for s in shapes]
    weights[1].data.zero_()
    adapts = [True, True, True, True, False]
    optimizer = LARS(
        [{"params": weights[:4]}, {"params": weights[4:], "adapt": False, "weight_decay": 0.0}],
        lr=1.0,
        weight_decay=0.03,
        eta=0.02,
        rate=rate,
        norms=norms,
    )
    slow = [(w.detach().flatten().tolist(), [0.0] * w.numel()) for w in weights]
    for step in range(20):
        gradients = [torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes]
        gradients[2] *= step % 3 != 0
        for group in optimizer.param_groups:
            group["lr"] = 0.5 + 0.3 * math.cos(step)
        for number, (w, g) in enumerate(zip(weights, gradients, strict=True)):
            absent = number == 3 and step % 2 == 0
            w.grad = None if absent else g
            if not absent:
                slow[number] = lars_by_hand(
                    slow[number][0],
                    g.flatten().tolist(),
                    slow[number][1],
                    lr=0.5 + 0.3 * math.cos(step),
                    mu=0.9,
                    wd=0.03 if adapts[number] else 0.0,
                    eta=0.02,
                    inside=rate == "inside",
                    apart=norms == "apart",
                    adapt=adapts[number],
                )
        optimizer.step()
        for w, g, (expected, _) in zip(weights, gradients, slow, strict=True):
            torch.testing.assert_close(
                w.data.flatten(), torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-13
            )
            assert w.grad is None or torch.equal(w.grad, g)  # gradients stay what they were


def test_lars_does_not_care_about_the_scale_of_the_loss():
    """Without decay, and up to rounding; one thousand times the loss, the same steps."""
    ends = []
    for scale in (1.0, 1000.0):
        w = nn.Parameter(torch.linspace(1, 2, 8, dtype=torch.float64))
        optimizer = LARS([w], lr=0.3, eta=0.1)
        for _ in range(5):
            w.grad = scale * (w.detach() - 5) ** 3
            optimizer.step()
        ends.append(w.detach())
    torch.testing.assert_close(*ends, rtol=1e-12, atol=0)


def test_lars_without_ratio_is_sgd():
    """Outside form, adapt=False: torch's SGD, also with momentum and decay."""
    ends = []
    for kind in ("lars", "sgd"):
        method = Small().double()
        method.load_state_dict(Small.reference.double().state_dict())
        parameters = list(method.parameters())
        if kind == "lars":
            optimizer = LARS([{"params": parameters, "adapt": False}], lr=0.1, weight_decay=0.01)
        else:
            optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.01)
        for step in range(6):
            method.learn(optimizer, step)
        ends.append(parameters)
    for ours, theirs in zip(*ends, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


with torch.random.fork_rng():
    torch.manual_seed(11)
    Small.reference = Small()


def test_lars_refuses_numbers_without_sense():
    with pytest.raises(ValueError, match="LARS cannot use lr=-1"):
        LARS([nn.Parameter(torch.ones(1))], lr=-1.0)


# Groups, rates, decay --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("no_decay", "exempt"),
    [
        ("nothing", set()),
        ("one_dimensional", {"body.0.bias", "body.1.weight", "body.1.bias", "body.4.bias", "head.bias", "temperature"}),
        ("bias_and_norm", {"body.0.bias", "body.1.weight", "body.1.bias", "body.4.bias", "head.bias"}),
    ],
)
def test_what_is_left_out_of_decay_and_adaptation(no_decay, exempt):
    optimization = Optimization(name="lars", rate=0.2, weight_decay=1e-4, no_decay=no_decay)
    optimizer = built(optimization, Small())
    optimization.set_rates(optimizer, CLOCK, at(30))
    seen = [name for group in optimizer.param_groups for name in group["names"]]
    assert sorted(seen) == sorted(dict(Small().named_parameters()))
    for name in seen:
        group = group_of(optimizer, name)
        assert group["weight_decay"] == (0 if name in exempt else 1e-4)
        assert group["adapt"] == (name not in exempt)


def test_norm_parameters_of_every_usual_kind():
    module = nn.ModuleDict(
        {
            "a": nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2)),
            "b": nn.GroupNorm(1, 2),
            "c": nn.BatchNorm1d(2, affine=False),
            "d": nn.InstanceNorm2d(2, affine=True),
            "e": nn.RMSNorm(2),
        }
    )
    assert norm_parameters(module) == {"a.1.weight", "a.1.bias", "b.weight", "b.bias", "d.weight", "d.bias", "e.weight"}
    assert norm_parameters(nn.LayerNorm(3)) == {"weight", "bias"}


def test_groups_change_what_they_name_and_the_longest_name_wins():
    special = {
        "body": Group(lr_scale=0.1),
        "body.4": Group(weight_decay=0.5, adapt=False),
        "head": Group(lr=Constant(0.7)),
        "temperature": Group(schedule=Constant(1.0)),
        "head.bias": Group(lr=Cosine(1.0, 0.0), lr_scale=2.0, weight_decay=Cosine(0.04, 0.4)),
    }
    optimization = Optimization(name="lars", rate=0.2, schedule=Constant(0.5), weight_decay=1e-4)
    optimizer = built(optimization, Small(special))
    assert optimization.set_rates(optimizer, CLOCK, at(30)) == pytest.approx(0.1)

    def facts(name: str) -> tuple:
        return tuple(group_of(optimizer, name)[key] for key in ("lr", "weight_decay", "adapt"))

    assert facts("body.0.weight") == (pytest.approx(0.01), 1e-4, True)
    assert facts("body.4.weight") == (pytest.approx(0.1), 0.5, False)
    assert facts("head.weight") == (0.7, 1e-4, True)
    cosine = (math.cos(math.pi * 0.3) + 1) / 2
    assert facts("head.bias") == (pytest.approx(2 * cosine), pytest.approx(0.4 - 0.36 * cosine), True)
    assert facts("temperature") == (pytest.approx(0.2), 1e-4, True)  # the recipe's rate, without its schedule


def test_a_name_is_a_path_not_a_beginning_of_letters():
    method = Small({"head": Group(lr_scale=3.0)})
    method.header = nn.Linear(2, 2)
    optimizer = built(Optimization(name="sgd", rate=1.0), method)
    assert group_of(optimizer, "header.weight")["special"] == Group()
    assert group_of(optimizer, "head.weight")["special"] == Group(lr_scale=3.0)


def test_equal_special_treatment_shares_a_param_group():
    special = {name: Group(lr_scale=0.5) for name in ("body.0.bias", "body.4.bias", "head.bias")}
    optimizer = built(Optimization(name="sgd", rate=1.0), Small(special))
    assert [group["names"] for group in optimizer.param_groups if group["special"].lr_scale == 0.5] == [sorted(special)]


def test_a_group_that_leads_nowhere_is_an_error():
    with pytest.raises(
        ValueError, match="groups\\(\\) names 'haed', which holds no parameter that learns: use the name"
    ):
        built(Optimization(name="sgd", rate=1.0), Small({"haed": Group(lr_scale=3.0)}))


def test_schedules_move_rate_and_decay():
    optimization = Optimization(
        name="adamw", rate=0.2, schedule=Warmup(epochs=4.0), weight_decay=Cosine(0.04, 0.4), no_decay="bias_and_norm"
    )
    optimizer = built(optimization, Small())
    assert optimization.set_rates(optimizer, CLOCK, at(30)) == pytest.approx(0.2 * 3 / 4)
    assert group_of(optimizer, "head.weight")["lr"] == pytest.approx(0.15)
    expected = 0.4 - 0.36 * (math.cos(math.pi * 0.3) + 1) / 2
    assert group_of(optimizer, "head.weight")["weight_decay"] == pytest.approx(expected)
    assert group_of(optimizer, "head.bias")["weight_decay"] == 0


RULES = {
    "sgd": Optimization(name="sgd", rate=0.1, weight_decay=0.01),
    "sgd without momentum": Optimization(name="sgd", rate=0.1, weight_decay=0.01, momentum=0.0),
    "nesterov": Optimization(name="sgd", rate=0.1, weight_decay=0.01, nesterov=True),
    "adam": Optimization(name="adam", rate=0.01, weight_decay=0.01),
    "adamw": Optimization(name="adamw", rate=0.01, weight_decay=0.1, betas=(0.8, 0.9)),
    "lars": Optimization(name="lars", rate=1.0, weight_decay=0.01, no_decay="one_dimensional"),
    "lars inside": Optimization(name="lars", rate=1.0, weight_decay=0.01, lars_rate="inside"),
    "larc": Optimization(name="larc", rate=1.0, weight_decay=0.01),
}


def same_start(special: dict[str, Group] | None = None) -> Small:
    method = Small(special)
    method.load_state_dict(Small.reference.float().state_dict())
    return method


def run(optimization: Optimization, method: Small, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        optimization.set_rates(optimizer, Clock(step=step, steps=40, epoch=step / 4, epochs=10.0), at(step))
        method.learn(optimizer, step)


def adam_by_hand(w, gradients, *, lr, wd, b1, b2, decoupled) -> float:
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        if decoupled:
            w -= lr * wd * w
        else:
            g = g + wd * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        w -= lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + 1e-8)
    return w


def sgd_by_hand(w, gradients, *, lr, wd, mu, nesterov) -> float:
    v = 0.0
    for g in gradients:
        g = g + wd * w
        v = mu * v + g
        w -= lr * (g + mu * v if nesterov else v)
    return w


def test_each_rule_is_what_its_name_says():
    """One weight, five gradients, against a loop: decay coupled (sgd, adam) or decoupled (adamw), Nesterov or not."""
    gradients = [0.3, -0.1, 0.25, 0.0, 0.7]
    expected = {
        "sgd": sgd_by_hand(1.5, gradients, lr=0.1, wd=0.01, mu=0.9, nesterov=False),
        "sgd without momentum": sgd_by_hand(1.5, gradients, lr=0.1, wd=0.01, mu=0.0, nesterov=False),
        "nesterov": sgd_by_hand(1.5, gradients, lr=0.1, wd=0.01, mu=0.9, nesterov=True),
        "adam": adam_by_hand(1.5, gradients, lr=0.01, wd=0.01, b1=0.9, b2=0.999, decoupled=False),
        "adamw": adam_by_hand(1.5, gradients, lr=0.01, wd=0.1, b1=0.8, b2=0.9, decoupled=True),
    }
    for name, value in expected.items():
        method = Small().double()
        method.temperature.data.fill_(1.5)
        optimizer = built(RULES[name], method)
        for g in gradients:
            method.temperature.grad = torch.tensor(g, dtype=torch.float64)
            RULES[name].set_rates(optimizer, CLOCK, at(0))
            optimizer.step()
        assert method.temperature.item() == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("frozen", [Group(frozen_until=3), Group(frozen_epochs=0.3)], ids=["steps", "epochs"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_frozen_groups_are_not_moved_by_anything(rule, frozen):
    """No gradient step, no decay, no momentum while they are frozen; then they learn like a fresh parameter."""
    method = same_start({"head": frozen})
    optimizer, start = built(rule, method), method.head.weight.detach().clone()
    for step in range(5):
        rule.set_rates(optimizer, CLOCK, at(step))
        optimizer.zero_grad()
        (method.head.weight.sum() + method.body[4].weight.square().sum()).backward()
        body = method.body[4].weight.detach().clone()
        hide_frozen(optimizer, at(step))
        optimizer.step()
        assert torch.equal(method.head.weight, start) == (step < 3)
        assert group_of(optimizer, "head.weight")["lr"] == (0 if step < 3 else rule.rate)
        assert not torch.equal(method.body[4].weight, body)
    reference = same_start()
    other = built(rule, reference)
    for step in range(2):
        rule.set_rates(other, CLOCK, at(step))
        other.zero_grad()
        reference.head.weight.sum().backward()
        other.step()
    torch.testing.assert_close(method.head.weight, reference.head.weight, rtol=0, atol=1e-7)


def test_clip_scales_to_the_limit_and_never_up():
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    for scale, expected in ((1.0, 2.0), (0.1, 0.7)):
        weights[0].grad, weights[1].grad = scale * torch.tensor([3.0, 6.0]), scale * torch.tensor([2.0])
        norm = torch.nn.utils.get_total_norm([w.grad for w in weights])
        Optimization(name="sgd", rate=1.0, clip=2.0).clip_(weights, norm)
        clipped = torch.nn.utils.get_total_norm([w.grad for w in weights])
        assert clipped.item() == pytest.approx(expected, rel=1e-5)
        unclipped = [w.grad.clone() for w in weights]
        Optimization(name="sgd", rate=1.0).clip_(weights, norm)
        assert all(torch.equal(w.grad, g) for w, g in zip(weights, unclipped, strict=True))


def test_clip_per_tensor_leaves_the_others_alone():
    weights = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    weights[0].grad, weights[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([2.0])
    rule = Optimization(name="sgd", rate=1.0, clip=2.5, clip_per="tensor")
    rule.clip_(weights, torch.tensor(100.0))
    torch.testing.assert_close(weights[0].grad, torch.tensor([1.5, 2.0]))
    torch.testing.assert_close(weights[1].grad, torch.tensor([2.0]))
    assert weights[2].grad is None


def test_clip_per_tensor_is_torchs_clip_of_each_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.zeros(shape)) for shape in ((64, 3, 3, 3), (64,), (1,), (128, 64), ())]
    for weight, size in zip(weights, (0.01, 3.0, 7.0, 0.5, 1.0), strict=True):
        weight.grad = size * torch.randn(weight.shape, generator=generator)
    weights.append(nn.Parameter(torch.zeros(2)))  # without gradient
    expected = [weight.grad.clone() for weight in weights[:-1]]
    for gradient in expected:
        stand_in = nn.Parameter(torch.zeros_like(gradient))
        stand_in.grad = gradient
        nn.utils.clip_grad_norm_(stand_in, 1.5)
    Optimization(name="sgd", rate=1.0, clip=1.5, clip_per="tensor").clip_(weights, torch.tensor(100.0))
    assert all(torch.equal(w.grad, g) for w, g in zip(weights[:-1], expected, strict=True))
    assert weights[-1].grad is None
    Optimization(name="sgd", rate=1.0, clip=1.5, clip_per="tensor").clip_(weights[-1:], torch.tensor(0.0))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rate": 0.0}, "rate=0.0"),
        ({"rate": 1.0, "clip": 0.0}, "clip=0.0"),
        ({"name": "adamw", "rate": 1.0, "nesterov": True}, "nesterov=True is for sgd, not for adamw"),
    ],
)
def test_values_without_sense_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Optimization(**{"name": "sgd", **wrong})


def test_rates_for_a_batch():
    assert linear_scaled(0.3, 4096) == pytest.approx(4.8)
    assert sqrt_scaled(0.075, 4096) == pytest.approx(4.8)  # SimCLR: the two rules meet at 4096


# State -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_state_through_a_file_goes_on_bit_by_bit(tmp_path, rule, memory_format):
    """Ten steps, through a file, ten more: equal to twenty. The head starts late, so that states have unequal ages."""
    whole = same_start({"head": Group(lr_scale=0.5)}).to(memory_format=memory_format)
    optimizer = built(rule, whole)
    for step in range(10):
        rule.set_rates(optimizer, CLOCK, at(step))
        whole.learn(optimizer, step, without="head" if step < 4 else "")
    tensors, facts = flat_state(optimizer)
    weights = {f"method/{name}": value for name, value in whole.state_dict().items()}
    save_weights(tmp_path / "state.safetensors", {**tensors, **weights})
    run(rule, whole, optimizer, range(10, 20))

    found = load_weights(tmp_path / "state.safetensors")
    resumed = Small({"head": Group(lr_scale=0.5)}).to(memory_format=memory_format)
    resumed.load_state_dict({name[7:]: value for name, value in found.items() if name.startswith("method/")})
    again = built(rule, resumed)
    load_flat_state(again, found, facts)
    run(rule, resumed, again, range(10, 20))
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    ours, theirs = flat_state(again), flat_state(optimizer)
    assert ours[1] == theirs[1]
    assert ours[0].keys() == theirs[0].keys()
    for name, value in theirs[0].items():
        assert torch.equal(ours[0][name], value), name
        assert ours[0][name].stride() == value.stride(), name
        assert ours[0][name].dtype == value.dtype


def test_state_is_named_by_parameter():
    method = same_start()
    optimizer = built(RULES["adamw"], method)
    assert flat_state(optimizer)[0] == {}
    method.learn(optimizer, 0)
    tensors, facts = flat_state(optimizer)
    keys = ("exp_avg", "exp_avg_sq", "step")
    assert sorted(tensors) == sorted(f"optimizer/{name}/{k}" for name, _ in method.named_parameters() for k in keys)
    assert facts["kind"] == "AdamW"


def test_loaded_state_is_a_copy_and_forgets_what_was_there():
    method = same_start()
    optimizer = built(RULES["lars"], method)
    method.learn(optimizer, 0)
    tensors, facts = flat_state(optimizer)
    before = {name: value.clone() for name, value in tensors.items()}
    load_flat_state(optimizer, tensors, facts)
    method.learn(optimizer, 1)
    assert all(torch.equal(tensors[name], before[name]) for name in before)
    load_flat_state(optimizer, {}, facts)
    assert flat_state(optimizer)[0] == {}


def test_state_of_something_else_is_refused():
    method = same_start()
    optimizer = built(RULES["adamw"], method)
    method.learn(optimizer, 0)
    tensors, facts = flat_state(optimizer)
    with pytest.raises(ValueError, match="the saved optimizer is AdamW, this one is SGD: use the recipe of the run"):
        load_flat_state(built(RULES["sgd"], same_start()), tensors, facts)
    with pytest.raises(ValueError, match=r"knows 'tail\.weight', which is no parameter here"):
        load_flat_state(optimizer, {"optimizer/tail.weight/step": torch.ones(())}, facts)
    with pytest.raises(ValueError, match=r"the saved exp_avg has shape \(3,\), its parameter \(4,\)"):
        load_flat_state(optimizer, {**tensors, "optimizer/head.bias/exp_avg": torch.ones(3)}, facts)


def test_every_parameter_of_one_dimension_or_none_keeps_its_state():
    """A scalar parameter has scalar averages; they are not mistaken for a step counter."""
    method = same_start()
    optimizer = built(RULES["adam"], method)
    run(RULES["adam"], method, optimizer, range(3))
    tensors, facts = flat_state(optimizer)
    again = built(RULES["adam"], same_start())
    load_flat_state(again, tensors, facts)
    name = "optimizer/temperature/exp_avg"
    assert torch.equal(flat_state(again)[0][name], tensors[name])
    assert tensors[name] != 0
