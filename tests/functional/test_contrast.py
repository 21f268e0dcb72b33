"""The contrast engine: closed forms, a slow oracle, identities between methods, exact gradients, several processes."""

import math
from typing import Any

import jaxtyping
import pytest
import torch

from lookalike.functional import byol_distance, contrast, relations, soft_contrast, unit
from lookalike.functional.collectives import global_mean, rank, world
from lookalike.functional.margin import Margin
from lookalike.functional.sweep import sweep

F64 = torch.float64
# the two-dimensional example of the tests: q, k and a queue of two
Q, K, QUEUE = (torch.tensor(rows, dtype=F64) for rows in ([[0.6, 0.8]], [[1.0, 0.0]], [[0.0, 1.0], [0.8, 0.6]]))
TEACHER: dict[str, Any] = {"teacher": K, "teacher_temperature": 0.25}
# method -> keyword arguments of soft_contrast besides q, keys, temperature
METHODS: dict[str, dict[str, Any]] = {
    "moco": {"mix": 1.0},
    "ressl": {"mix": 0.0, "positive_in_denominator": False},
    "sce": {"mix": 0.5},
    "sce, official": {"mix": 0.5, "mask_positive": "official"},
    "sce, mix 0": {"mix": 0.0},
    "decoupled": {"mix": 1.0, "positive_in_denominator": False},
    "margin": {"mix": 1.0, "margin": Margin(0.2)},
    "arc": {"mix": 1.0, "margin": Margin(-0.4, "arc")},
    "everything": {"mix": 0.3, "mask_positive": "official", "margin": Margin(0.1, "arc")},
}


def rows(count: int, width: int, dtype: torch.dtype = F64) -> torch.Tensor:
    return unit(torch.randn(count, width, dtype=F64)).to(dtype)


def bent(cosine, arc: float):
    """The cosine of an angle that is wider by `arc`; where that is below 0 or above pi, a line."""
    angle = cosine.acos() + arc
    return torch.where((angle > 0) & (angle < math.pi), angle.cos(), cosine - abs(arc) * math.sin(arc))


def dense(
    q_BD,
    *,
    keys,
    temperature,
    positive,
    teacher,
    teacher_temperature,
    mix=1.0,
    positive_in_denominator=True,
    mask_positive="paper",
    mask=None,
    margin=None,
):
    """Row losses from full matrices and torch's own gradients; column 0 is the positive."""
    out = torch.zeros(len(q_BD), len(keys), dtype=torch.bool) if mask is None else mask
    near = (q_BD * positive).sum(1, keepdim=True)
    if margin is not None:
        near = near - margin.size if margin.measure == "cosine" else bent(near, margin.size)
    student = torch.cat([near, q_BD @ keys.T], 1) / temperature
    first = 0.0 if mask_positive == "official" else -torch.inf
    relation = torch.cat([torch.full((len(q_BD), 1), first), teacher @ keys.T / teacher_temperature], 1)
    hidden = torch.cat([torch.full((len(q_BD), 1), not positive_in_denominator), out], 1)
    log_p = student - student.masked_fill(hidden, -torch.inf).logsumexp(1, keepdim=True)
    target = (1 - mix) * relation.masked_fill(torch.cat([hidden[:, :1] & False, out], 1), -torch.inf).softmax(1)
    target[:, 0] += mix
    return -torch.where(target > 0, target * log_p, 0.0).sum(1), target


def slow(q, keys, positive, t, teacher, t_teacher, mix, official) -> float:
    """SCE of one row by plain loops over floats."""
    dot = lambda a, b: sum(x * y for x, y in zip(a, b, strict=True))  # noqa: E731
    relations = [math.exp(dot(teacher, key) / t_teacher) for key in keys]
    total = math.fsum(relations) + (1.0 if official else 0.0)
    target = [mix + (1 - mix) * (1.0 / total if official else 0.0)] + [(1 - mix) * r / total for r in relations]
    logits = [dot(q, key) / t for key in (positive, *keys)]
    log_sum = math.log(math.fsum(math.exp(logit) for logit in logits))
    return math.fsum(w * (log_sum - logit) for w, logit in zip(target, logits, strict=True))


def problem(batch: int = 6, keys: int = 63, width: int = 8, dtype: torch.dtype = F64) -> dict[str, Any]:
    return {
        "keys": rows(keys, width, dtype),
        "positive": rows(batch, width, dtype),
        "teacher": rows(batch, width, dtype),
        "teacher_temperature": 0.07,
        "temperature": 0.2,
    }


def gradient(loss: torch.Tensor, q_BD: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(loss, q_BD)[0]


class TestClosedForms:
    @pytest.mark.parametrize("backend", ["attention", "tiles"])
    @pytest.mark.parametrize(
        ("arguments", "loss"),
        [
            ({"mix": 1.0}, 1.514304),
            ({"mix": 0.0, "positive_in_denominator": False, **TEACHER}, 0.558426),
            ({"mix": 0.5, **TEACHER}, 1.160571),
            ({"mix": 0.5, "mask_positive": "official", **TEACHER}, 1.173903),
            ({"mix": 0.0, **TEACHER}, 0.806837),
        ],
        ids=["MoCo", "ReSSL", "SCE, paper", "SCE, official code", "SCE, mix 0"],
    )
    def test_example(self, backend, arguments, loss):
        found = soft_contrast(Q, positive=K, keys=QUEUE, temperature=0.5, backend=backend, **arguments)
        assert found.loss.item() == pytest.approx(loss, abs=1e-6)

    def test_example_ceil(self):
        """-log(1 - p_0), the term of SCE that ReSSL leaves out."""
        with_positive = soft_contrast(Q, positive=K, keys=QUEUE, temperature=0.5, mix=0.0, **TEACHER)
        without = soft_contrast(Q, keys=QUEUE, temperature=0.5, mix=0.0, positive_in_denominator=False, **TEACHER)
        assert (with_positive.loss - without.loss).item() == pytest.approx(0.248412, abs=1e-6)
        assert -math.log1p(-with_positive.confidence.item()) == pytest.approx(0.248412, abs=1e-6)

    def test_example_teacher(self):
        """Its softmax over the queue alone, [0.0391657, 0.9608343], as the average key that it makes."""
        target, s = relations(K, QUEUE, temperature=0.25), torch.tensor([[0.0391657, 0.9608343]], dtype=F64)
        torch.testing.assert_close(target.mean, s @ QUEUE, rtol=0, atol=1e-7)
        assert target.share.item() == 1.0

    @pytest.mark.parametrize(
        ("arguments", "p", "w"),
        [
            ({"mix": 1.0}, [0.219961, 0.328143, 0.451895], [1.0, 0.0, 0.0]),
            ({"mix": 0.0, **TEACHER}, [0.219961, 0.328143, 0.451895], [0.0, 0.0391657, 0.9608343]),
            ({"mix": 0.5, **TEACHER}, [0.219961, 0.328143, 0.451895], [0.5, 0.019583, 0.480417]),
            (
                {"mix": 0.5, "mask_positive": "official", **TEACHER},
                [0.219961, 0.328143, 0.451895],
                [0.518845, 0.018845, 0.462310],
            ),
            (
                {"mix": 0.0, "positive_in_denominator": False, **TEACHER},
                [0.0, 0.420676, 0.579324],  # the second and third, divided by their sum
                [0.0, 0.0391657, 0.9608343],
            ),
        ],
        ids=["MoCo", "SCE, mix 0", "SCE, paper", "SCE, official code", "ReSSL"],
    )
    def test_example_gradient(self, arguments, p, w):
        """The sum of (p_j - w_j) key_j / t: what the student gives each candidate, less what it should."""
        q_BD = Q.clone().requires_grad_()
        found = soft_contrast(q_BD, positive=K, keys=QUEUE, temperature=0.5, **arguments)
        over = torch.tensor([p], dtype=F64) - torch.tensor([w], dtype=F64)
        expected = over @ torch.cat([K, QUEUE]) / 0.5
        torch.testing.assert_close(gradient(found.loss, q_BD), expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize(
        ("mask_positive", "target"),
        [("paper", [0.5, 0.019583, 0.480417]), ("official", [0.518845, 0.018845, 0.462310])],
    )
    def test_example_target_entropy(self, mask_positive, target):
        found = soft_contrast(
            Q, positive=K, keys=QUEUE, temperature=0.5, mix=0.5, mask_positive=mask_positive, **TEACHER
        )
        entropy = -sum(w * math.log(w) for w in target)
        assert found.target_entropy.item() == pytest.approx(entropy, abs=1e-5)

    @pytest.mark.parametrize("temperature", [0.2, 0.1, 0.07])
    @pytest.mark.parametrize("dtype", [F64, torch.float32])
    def test_moco_with_a_perfect_positive(self, temperature, dtype):
        """ln(1 + e^(-1/t) + e^(-2/t)): 6.2e-7 at t = 0.07, to its relative precision in float32 too."""
        e1, queue = torch.tensor([[1.0, 0.0]], dtype=dtype), torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=dtype)
        found = soft_contrast(e1, positive=e1, keys=queue, temperature=temperature)
        expected = math.log1p(math.exp(-1 / temperature) + math.exp(-2 / temperature))
        assert found.loss.item() == pytest.approx(expected, rel=1e-12 if dtype == F64 else 1e-5)

    @pytest.mark.parametrize("size", [4096, 65536])
    def test_equal_similarities_give_the_log_of_the_candidates(self, size):
        e1, e2 = torch.eye(2)[:1], torch.eye(2)[1:]
        found = soft_contrast(e1, positive=e2, keys=e2.expand(size, 2), temperature=0.1)
        assert found.loss.item() == pytest.approx(math.log(1 + size), rel=1e-6)
        assert contrast(e1, e2.expand(size, 2), torch.tensor([3]), temperature=0.1).loss.item() == pytest.approx(
            math.log(size), rel=1e-6
        )

    @pytest.mark.parametrize(
        ("side", "losses"),
        [("query", [0.751251, 0.627123, 0.943921]), ("key", [0.460373, 1.151251, 0.794304])],
    )
    def test_qk_iteration_example(self, side, losses):
        q = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], dtype=F64)
        k = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.8, 0.6]], dtype=F64)
        learner, bank = (q, k) if side == "query" else (k, q)
        found = contrast(learner, bank, torch.arange(3), temperature=0.5, reduction="none")
        assert found.loss.tolist() == pytest.approx(losses, abs=1e-6)


class TestOracle:
    @pytest.mark.parametrize("official", [False, True])
    @pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
    def test_plain_loops(self, official, mix):
        q_BD, arguments = rows(4, 5), problem(4, 9, 5)
        found = soft_contrast(
            q_BD, mix=mix, mask_positive="official" if official else "paper", reduction="none", **arguments
        )
        for row in range(4):
            keys, positive = arguments["keys"].tolist(), arguments["positive"][row].tolist()
            expected = slow(
                q_BD[row].tolist(), keys, positive, 0.2, arguments["teacher"][row].tolist(), 0.07, mix, official
            )
            assert found.loss[row].item() == pytest.approx(expected, abs=1e-12)

    @pytest.mark.parametrize("temperature", [0.01, 0.05, 0.2, 1.0])
    @pytest.mark.parametrize("keys", [1, 2, 63, 4097])
    @pytest.mark.parametrize("method", list(METHODS))
    def test_loss_and_gradient_equal_full_matrices(self, method, keys, temperature):
        q_BD, arguments = rows(5, 6).requires_grad_(), problem(5, keys, 6) | METHODS[method]
        arguments["temperature"] = temperature
        expected_B, _ = dense(q_BD, **arguments)
        weight_B = torch.randn(5, dtype=F64)
        expected = gradient(expected_B @ weight_B, q_BD)
        for backend in ("attention", "tiles"):
            found = soft_contrast(q_BD, reduction="none", backend=backend, **arguments)
            torch.testing.assert_close(found.loss, expected_B, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(gradient(found.loss @ weight_B, q_BD), expected, rtol=1e-11, atol=1e-11)

    @pytest.mark.parametrize("method", list(METHODS))
    def test_masked_keys_are_no_candidates(self, method):
        q_BD, arguments = rows(5, 6).requires_grad_(), problem(5, 40, 6) | METHODS[method]
        arguments["mask"] = torch.rand(5, 40) < 0.5
        found, (expected_B, _) = soft_contrast(q_BD, **arguments), dense(q_BD, **arguments)
        torch.testing.assert_close(found.loss, expected_B.mean(), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(found.loss, q_BD), gradient(expected_B.mean(), q_BD), rtol=0, atol=1e-12)

    @pytest.mark.parametrize("method", list(METHODS))
    def test_finite_differences(self, method):
        arguments = problem(3, 11, 4) | METHODS[method]
        assert torch.autograd.gradcheck(lambda q: soft_contrast(q, **arguments).loss, rows(3, 4).requires_grad_())

    @pytest.mark.parametrize("method", list(METHODS))
    def test_diagnostics(self, method):
        q_BD, arguments = rows(5, 6), problem(5, 40, 6) | METHODS[method]
        found = soft_contrast(q_BD.requires_grad_(), **arguments)
        _, target_BN = dense(q_BD, **arguments)
        if arguments.get("positive_in_denominator", True):
            entropy = -torch.xlogy(target_BN, target_BN).sum(1).mean()
            torch.testing.assert_close(found.target_entropy, entropy, rtol=0, atol=1e-12)
        near = dense(q_BD, **(arguments | {"mix": 1.0, "positive_in_denominator": True}))[0]
        torch.testing.assert_close(found.confidence, torch.exp(-near.detach()).mean(), rtol=0, atol=1e-12)
        assert not found.target_entropy.requires_grad
        assert not found.confidence.requires_grad

    @pytest.mark.parametrize("temperature", [0.05, 0.5])
    @pytest.mark.parametrize("backend", ["attention", "tiles"])
    def test_contrast_by_index_is_torch_cross_entropy(self, backend, temperature):
        q_BD, keys_ND, index_B = rows(7, 5).requires_grad_(), rows(63, 5), torch.randint(63, (7,))
        found = contrast(q_BD, keys_ND, index_B, temperature=temperature, backend=backend)
        logits_BN = q_BD @ keys_ND.T / temperature
        expected = torch.nn.functional.cross_entropy(logits_BN, index_B)
        torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(found.loss, q_BD), gradient(expected, q_BD), rtol=0, atol=1e-12)
        confidence = logits_BN.softmax(1).gather(1, index_B[:, None]).mean()
        torch.testing.assert_close(found.confidence, confidence.detach(), rtol=0, atol=1e-12)

    def test_contrast_by_index_with_a_mask(self):
        q_BD, keys_ND, index_B = rows(7, 5).requires_grad_(), rows(63, 5), torch.randint(63, (7,))
        mask = (torch.rand(7, 63) < 0.5).scatter(1, index_B[:, None], False)
        found = contrast(q_BD, keys_ND, index_B, temperature=0.1, mask=mask)
        expected = torch.nn.functional.cross_entropy((q_BD @ keys_ND.T / 0.1).masked_fill(mask, -torch.inf), index_B)
        torch.testing.assert_close(found.loss, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(found.loss, q_BD), gradient(expected, q_BD), rtol=0, atol=1e-12)

    def test_more_keys_never_lower_the_loss(self):
        q_BD, keys_ND = rows(4, 5), rows(30, 5)
        losses = [contrast(q_BD, keys_ND[:n], torch.arange(4), temperature=0.1).loss.item() for n in (4, 8, 30)]
        assert losses == sorted(losses)


class TestPrecision:
    @pytest.mark.parametrize("backend", ["attention", "tiles"])
    @pytest.mark.parametrize("temperature", [0.001, 0.01, 0.07, 1.0, 10.0])
    @pytest.mark.parametrize("method", ["moco", "ressl", "sce", "sce, official"])
    def test_float32(self, method, temperature, backend):
        """Relative error of loss and gradient against float64; at t = 0.001 the logits themselves round to 1e-4."""
        wide = problem(16, 2000, 32) | METHODS[method] | {"temperature": temperature}
        narrow = {name: v.float() if isinstance(v, torch.Tensor) else v for name, v in wide.items()}
        q_BD = rows(16, 32).float().requires_grad_()
        found = soft_contrast(q_BD, backend=backend, **narrow)
        exact = {name: v.double() if isinstance(v, torch.Tensor) else v for name, v in narrow.items()}
        expected = dense(q_BD.double(), **exact)[0].mean()
        tolerance = 1e-5 if temperature >= 0.01 else 1e-4
        assert found.loss.dtype == torch.float32
        assert found.loss.item() == pytest.approx(expected.item(), rel=tolerance)
        exact_gradient = gradient(expected, q_BD).double()
        error = (gradient(found.loss, q_BD) - exact_gradient).norm() / exact_gradient.norm()
        assert error < tolerance

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("method", ["moco", "ressl", "sce"])
    def test_half_precision_is_computed_in_float32(self, method, dtype):
        """Rounded inputs are the only error: equal to float64 on the same rounded numbers, gradient rounded once."""
        wide = problem(16, 500, 32) | METHODS[method]
        half = {name: v.to(dtype) if isinstance(v, torch.Tensor) else v for name, v in wide.items()}
        q_BD = rows(16, 32).to(dtype).requires_grad_()
        found = soft_contrast(q_BD, **half)
        exact = {name: v.double() if isinstance(v, torch.Tensor) else v for name, v in half.items()}
        q_wide = q_BD.detach().double().requires_grad_()
        expected = dense(q_wide, **exact)[0].mean()
        assert found.loss.dtype == torch.float32
        assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
        found_gradient, exact_gradient = gradient(found.loss, q_BD), gradient(expected, q_wide)
        assert found_gradient.dtype == dtype
        assert (found_gradient.double() - exact_gradient).norm() / exact_gradient.norm() < 4e-3
        unrounded = soft_contrast(q_BD.double().detach(), **wide).loss
        assert found.loss.item() == pytest.approx(unrounded.item(), rel=2e-2)

    def test_autocast_changes_nothing(self):
        q_BD, arguments = rows(8, 16).float().requires_grad_(), problem(8, 100, 16, torch.float32) | {"mix": 0.5}
        plain = soft_contrast(q_BD, **arguments).loss
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = soft_contrast(q_BD, **arguments).loss
        assert torch.equal(plain, inside)
        assert torch.equal(gradient(plain, q_BD), gradient(inside, q_BD))

    def test_rows_that_are_not_normalized(self):
        arguments = problem(5, 63, 6) | METHODS["sce"]
        arguments["keys"] = arguments["keys"] * torch.logspace(-2, 2, 63, dtype=F64)[:, None]
        q_BD = (rows(5, 6) * 30).requires_grad_()
        found, expected = soft_contrast(q_BD, **arguments).loss, dense(q_BD, **arguments)[0].mean()
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(found, q_BD), gradient(expected, q_BD), rtol=1e-11, atol=1e-11)

    def test_duplicates_of_the_positive_and_one_hot_extremes(self):
        e = torch.eye(4, dtype=F64)
        q_BD = e[:1].clone().requires_grad_()
        found = soft_contrast(q_BD, positive=e[:1], keys=e[:1].repeat(7, 1), temperature=0.001)
        assert found.loss.item() == pytest.approx(math.log(8), rel=1e-12)
        assert gradient(found.loss, q_BD).abs().max() == 0.0
        worst = soft_contrast(q_BD, positive=-e[:1], keys=e, temperature=0.001)
        assert worst.loss.item() == pytest.approx(2000.0, rel=1e-12)
        best = soft_contrast(q_BD, positive=e[:1], keys=-e[:1], temperature=0.001)
        assert best.loss.item() == 0.0
        assert gradient(best.loss, q_BD).abs().max() == 0.0


class TestIdentities:
    @pytest.mark.parametrize("mask_positive", ["paper", "official"])
    def test_sce_with_mix_1_is_moco(self, mask_positive):
        q_BD, arguments = rows(5, 6).requires_grad_(), problem(5, 63, 6)
        sce = soft_contrast(q_BD, mix=1.0, mask_positive=mask_positive, **arguments).loss
        moco = soft_contrast(q_BD, keys=arguments["keys"], positive=arguments["positive"], temperature=0.2).loss
        assert torch.equal(sce, moco)
        assert torch.equal(gradient(sce, q_BD), gradient(moco, q_BD))

    @pytest.mark.parametrize("mix", [0.0, 0.25, 0.5, 1.0])
    def test_sce_is_mix_info_nce_and_the_rest_ressl_and_ceil(self, mix):
        q_BD, arguments = rows(5, 6).requires_grad_(), problem(5, 63, 6)
        sce = soft_contrast(q_BD, mix=mix, **arguments).loss
        moco = soft_contrast(q_BD, mix=1.0, reduction="none", **arguments)
        ressl = soft_contrast(q_BD, mix=0.0, positive_in_denominator=False, **arguments).loss
        ceil = -torch.log1p(-torch.exp(-moco.loss)).mean()
        parts = mix * moco.loss.mean() + (1 - mix) * (ressl + ceil)
        torch.testing.assert_close(sce, parts, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(sce, q_BD), gradient(parts, q_BD), rtol=0, atol=1e-11)

    def test_cold_teacher_points_at_its_nearest_key(self):
        q_BD, arguments = rows(5, 6), problem(5, 63, 6)
        arguments["teacher_temperature"] = 1e-4
        found = soft_contrast(q_BD, mix=0.4, reduction="none", **arguments)
        nearest_B = (arguments["teacher"] @ arguments["keys"].T).argmax(1)
        logits = torch.cat([(q_BD * arguments["positive"]).sum(1, keepdim=True), q_BD @ arguments["keys"].T], 1) / 0.2
        log_p = logits.log_softmax(1)
        expected = -0.4 * log_p[:, 0] - 0.6 * log_p.gather(1, nearest_B[:, None] + 1)[:, 0]
        torch.testing.assert_close(found.loss, expected, rtol=0, atol=1e-10)

    def test_identical_keys_give_a_uniform_relation(self):
        q_BD, arguments = rows(5, 6), problem(5, 63, 6)
        arguments["keys"] = rows(1, 6).expand(63, 6)
        found = soft_contrast(q_BD, mix=0.0, positive_in_denominator=False, **arguments)
        assert found.loss.item() == pytest.approx(math.log(63), abs=1e-12)
        assert found.target_entropy.item() == pytest.approx(math.log(63), abs=1e-12)

    def test_ressl_of_a_student_equal_to_its_teacher_is_the_entropy_and_has_no_slope(self):
        q_BD, keys_ND = rows(5, 6).requires_grad_(), rows(63, 6)
        found = soft_contrast(
            q_BD,
            keys=keys_ND,
            temperature=0.1,
            teacher=q_BD,
            teacher_temperature=0.1,
            mix=0.0,
            positive_in_denominator=False,
        )
        torch.testing.assert_close(found.loss, found.target_entropy, rtol=1e-12, atol=1e-12)
        assert gradient(found.loss, q_BD).abs().max() < 1e-13

    @pytest.mark.parametrize("backend", ["attention", "tiles"])
    @pytest.mark.parametrize("method", list(METHODS))
    def test_the_order_of_keys_does_not_matter(self, method, backend):
        q_BD, arguments = rows(5, 6), problem(5, 1500, 6) | METHODS[method]
        shuffled = arguments | {"keys": arguments["keys"][torch.randperm(1500)]}
        a, b = (soft_contrast(q_BD, backend=backend, **x).loss for x in (arguments, shuffled))
        torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-13)

    def test_a_symmetric_loss_is_the_mean_of_its_directions(self):
        """Both directions stacked in one call share the keys."""
        (q1, q2, k1, k2), keys = (rows(5, 6) for _ in range(4)), rows(63, 6)
        arguments: dict[str, Any] = {"keys": keys, "temperature": 0.1, "teacher_temperature": 0.05, "mix": 0.5}
        one = soft_contrast(q1, positive=k2, teacher=k2, **arguments).loss
        two = soft_contrast(q2, positive=k1, teacher=k1, **arguments).loss
        k21 = torch.cat([k2, k1])
        both = soft_contrast(torch.cat([q1, q2]), positive=k21, teacher=k21, **arguments).loss
        torch.testing.assert_close(both, (one + two) / 2, rtol=1e-12, atol=1e-12)

    def test_an_indexed_positive_is_a_positive_beside_the_other_keys(self):
        q_BD, keys_ND, index_B = rows(5, 6).requires_grad_(), rows(63, 6), torch.tensor([0, 5, 5, 62, 17])
        by_index = contrast(q_BD, keys_ND, index_B, temperature=0.1).loss
        own = torch.zeros(5, 63, dtype=torch.bool).scatter(1, index_B[:, None], True)
        beside = soft_contrast(q_BD, keys=keys_ND, positive=keys_ND[index_B], mask=own, temperature=0.1).loss
        torch.testing.assert_close(by_index, beside, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradient(by_index, q_BD), gradient(beside, q_BD), rtol=0, atol=1e-12)


class TestGradientFlow:
    @pytest.mark.parametrize("method", list(METHODS))
    def test_only_the_query_learns(self, method):
        q_BD, arguments = rows(5, 6).requires_grad_(), problem(5, 20, 6) | METHODS[method]
        frozen = [arguments[name].requires_grad_() for name in ("keys", "positive", "teacher")]
        soft_contrast(q_BD, **arguments).loss.backward()
        assert q_BD.grad is not None
        assert q_BD.grad.norm() > 0
        assert [x.grad for x in frozen] == [None, None, None]

    def test_the_bank_does_not_learn(self):
        q_BD, keys_ND = rows(5, 6).requires_grad_(), rows(20, 6).requires_grad_()
        contrast(q_BD, keys_ND, torch.arange(5), temperature=0.1).loss.backward()
        assert q_BD.grad is not None
        assert keys_ND.grad is None

    def test_the_keys_may_be_overwritten_before_backward(self):
        """A queue is pushed between loss and backward in gradient accumulation; the gradient is that of the loss."""
        q_BD, arguments = rows(5, 6).requires_grad_(), problem(5, 20, 6) | METHODS["sce"]
        expected = gradient(soft_contrast(q_BD, **arguments).loss, q_BD)
        loss = soft_contrast(q_BD, **arguments).loss
        arguments["keys"].zero_()
        assert torch.equal(gradient(loss, q_BD), expected)

    def test_rows_weighted_by_the_caller(self):
        q_BD, arguments = rows(5, 6).requires_grad_(), problem(5, 20, 6)
        loss_B = soft_contrast(q_BD, reduction="none", **arguments).loss
        weighted = gradient(loss_B[2], q_BD)
        assert weighted[[0, 1, 3, 4]].abs().max() == 0.0
        assert weighted[2].norm() > 0


class TestRowsWithoutCandidates:
    @pytest.mark.parametrize("method", list(METHODS))
    def test_all_keys_masked(self, method):
        q_BD, arguments = rows(4, 6).requires_grad_(), problem(4, 20, 6) | METHODS[method]
        mask = torch.zeros(4, 20, dtype=torch.bool)
        mask[1] = True
        found = soft_contrast(q_BD, mask=mask, reduction="none", **arguments)
        assert found.loss[1].item() == 0.0
        assert found.target_entropy[1].item() == 0.0
        assert gradient(found.loss.sum(), q_BD)[1].tolist() == [0.0] * 6
        others = soft_contrast(q_BD, reduction="none", **arguments)
        torch.testing.assert_close(found.loss[[0, 2, 3]], others.loss[[0, 2, 3]], rtol=1e-12, atol=1e-12)

    def test_an_empty_queue(self):
        found = soft_contrast(rows(4, 6), positive=rows(4, 6), keys=rows(0, 6), temperature=0.1)
        assert found.loss.item() == 0.0
        assert found.confidence.item() == 1.0


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"temperature": 0.0}, "temperature is 0.0"),
            ({"temperature": math.nan}, "temperature is nan"),
            ({"mix": 1.2}, "mix is 1.2"),
            ({"mix": 0.5, "teacher": None}, "give teacher and teacher_temperature"),
            ({"mix": 0.5, "teacher_temperature": None}, "give teacher and teacher_temperature"),
            ({"mix": 0.5, "teacher_temperature": -1.0}, "temperature is -1.0"),
            ({"positive": None}, "no positive given"),
            ({"positive": None, "mix": 0.0}, "no positive given"),
            ({"mix": 0.0, "mask_positive": "official", "positive_in_denominator": False}, "official"),
        ],
    )
    def test_is_a_sentence(self, change, message):
        with pytest.raises(ValueError, match=message):
            soft_contrast(rows(3, 4), **(problem(3, 5, 4) | change))

    @pytest.mark.parametrize("option", ["mask_positive", "reduction", "backend"])
    def test_an_unknown_option_is_refused(self, option):
        """Also where annotations are not executed, as in a user's script."""
        jaxtyping.config.update("jaxtyping_disable", True)
        try:
            with pytest.raises(ValueError, match=f"{option} is 'offical'"):
                soft_contrast(rows(3, 4), **(problem(3, 5, 4) | {option: "offical"}))
        finally:
            jaxtyping.config.update("jaxtyping_disable", False)

    def test_a_target_besides_a_teacher(self):
        given = problem(3, 5, 4)
        target = relations(given["teacher"], given["keys"], temperature=0.07)
        with pytest.raises(ValueError, match="it replaces both"):
            soft_contrast(rows(3, 4), target=target, **given)

    def test_a_mask_over_the_positive(self):
        with pytest.raises(ValueError, match="hides the positive"):
            contrast(rows(1, 4), rows(5, 4), torch.tensor([2]), temperature=0.1, mask=torch.ones(1, 5).bool())


@pytest.mark.parametrize("positive", [True, False])
def test_a_target_made_before_is_that_of_the_teacher(positive):
    q_BD, given = rows(6, 8), problem()
    target = relations(given["teacher"], given["keys"], temperature=given["teacher_temperature"])
    whole = soft_contrast(q_BD, mix=0.0, positive_in_denominator=positive, **given)
    bare = {name: given[name] for name in ("keys", "temperature") + ("positive",) * positive}
    found = soft_contrast(q_BD, target=target, positive_in_denominator=positive, **bare)
    assert torch.equal(found.loss, whole.loss)
    assert torch.equal(found.target_entropy, whole.target_entropy)


def test_candidates_beside_the_keys_are_keys():
    """A sweep over the first forty keys, given beside the other twenty-three."""
    q_BD, given = rows(6, 8).requires_grad_(), problem() | METHODS["sce"]
    target = relations(given["teacher"], given["keys"], temperature=0.07)
    common = {"positive": given["positive"], "temperature": 0.2, "target": target}
    whole = soft_contrast(q_BD, keys=given["keys"], **common)
    beside = sweep(q_BD.detach() / 0.2, given["keys"][:40])
    parted = soft_contrast(q_BD, keys=given["keys"][40:], beside=beside, **common)
    torch.testing.assert_close(parted, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient(parted.loss, q_BD), gradient(whole.loss, q_BD), rtol=1e-12, atol=1e-12)


def on_a_rank(q_BD: torch.Tensor, arguments: dict[str, Any]) -> list[torch.Tensor]:
    """Own rows of the batch; the keys are on every rank."""
    own = {n: v[rank() :: world()] if n in ("positive", "teacher", "mask") else v for n, v in arguments.items()}
    q_bD = q_BD[rank() :: world()].clone().requires_grad_()
    found = soft_contrast(q_bD, **own)
    return [found.loss.detach(), gradient(found.loss, q_bD), found.target_entropy, found.confidence]


def on_a_shard(q_BD: torch.Tensor, arguments: dict[str, Any]) -> list[torch.Tensor]:
    return on_a_rank(q_BD, arguments | {"keys": arguments["keys"][rank() :: world()], "sharded": True})


def bank_on_shards(q_BD: torch.Tensor, keys_ND: torch.Tensor, index_B: torch.Tensor) -> list[torch.Tensor]:
    q_bD, index_b = q_BD[rank() :: world()].clone().requires_grad_(), index_B[rank() :: world()]
    found = contrast(q_bD, keys_ND[rank() :: world()], index_b, temperature=0.1, sharded=True)
    return [found.loss.detach(), gradient(found.loss, q_bD), found.target_entropy, found.confidence]


def byol(p_BD: torch.Tensor, z_BD: torch.Tensor) -> list[torch.Tensor]:
    p_bD = p_BD[rank() :: world()].clone().requires_grad_()
    loss = global_mean(byol_distance(p_bD, z_BD[rank() :: world()]))
    return [loss.detach(), gradient(loss, p_bD)]


def check_ranks(answers: list[list[torch.Tensor]], expected: list[torch.Tensor]) -> None:
    """Every rank reports the global numbers; averaged as DDP does, the gradients are those of the joined batch."""
    ranks = len(answers)
    for r, (loss, slope, *diagnostics) in enumerate(answers):
        torch.testing.assert_close(loss, expected[0], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(slope / ranks, expected[1][r::ranks], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(diagnostics, expected[2:], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("processes", [2, 3])
@pytest.mark.parametrize("batch", [7, 1])
class TestSeveralProcesses:
    @pytest.mark.parametrize("method", ["moco", "ressl", "everything"])
    def test_equal_the_joined_batch(self, gloo, processes, batch, method):
        q_BD, arguments = rows(batch, 6), problem(batch, 33, 6) | METHODS[method]
        arguments["mask"] = torch.rand(batch, 33) < 0.2
        check_ranks(gloo.run(processes, on_a_rank, q_BD, arguments), on_a_rank(q_BD, arguments))

    @pytest.mark.parametrize("method", ["moco", "ressl", "everything"])
    def test_with_keys_dealt_over_ranks(self, gloo, processes, batch, method):
        q_BD, arguments = rows(batch, 6), problem(batch, 34, 6) | METHODS[method]
        check_ranks(gloo.run(processes, on_a_shard, q_BD, arguments), on_a_rank(q_BD, arguments))

    def test_with_a_bank_dealt_over_ranks(self, gloo, processes, batch):
        q_BD, keys_ND, index_B = rows(batch, 6), rows(34, 6), torch.randint(34, (batch,))
        answers = gloo.run(processes, bank_on_shards, q_BD, keys_ND, index_B)
        check_ranks(answers, bank_on_shards(q_BD, keys_ND, index_B))

    def test_byol(self, gloo, processes, batch):
        p_BD, z_BD = rows(batch, 6) * 3, rows(batch, 6)
        check_ranks(gloo.run(processes, byol, p_BD, z_BD), byol(p_BD, z_BD))


def test_fewer_keys_than_ranks(gloo):
    q_BD, arguments = rows(5, 6), problem(5, 2, 6) | METHODS["sce"]
    check_ranks(gloo.run(4, on_a_shard, q_BD, arguments), on_a_rank(q_BD, arguments))


def test_one_process_may_say_sharded():
    q_BD, arguments = rows(5, 6), problem(5, 20, 6) | METHODS["sce"]
    check_ranks([on_a_shard(q_BD, arguments)], on_a_rank(q_BD, arguments))
    with pytest.raises(ValueError, match="mask over sharded keys"):
        soft_contrast(q_BD, mask=torch.zeros(5, 20).bool(), sharded=True, **arguments)
