"""The losses against golden numbers worked out by hand, and their contracts."""

import math

import numpy as np
import pytest
import torch

from qkd.student import losses
from qkd.student.losses import cross_entropy, js_divergence, kl_divergence, qdllm

# softmax of (ln 3, 0) is (3/4, 1/4); of (0, 0) it is (1/2, 1/2)
TEACHER = torch.tensor([[math.log(3), 0.0]], dtype=torch.float64)
FLAT = torch.zeros((1, 2), dtype=torch.float64)


def test_golden_kl():
    expected = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert kl_divergence(FLAT, TEACHER, 1.0).item() == pytest.approx(expected, abs=1e-12)


def test_golden_js():
    m = (0.625, 0.375)
    half = 0.75 * math.log(0.75 / m[0]) + 0.25 * math.log(0.25 / m[1])
    other = 0.5 * math.log(0.5 / m[0]) + 0.5 * math.log(0.5 / m[1])
    assert js_divergence(FLAT, TEACHER, 1.0).item() == pytest.approx((half + other) / 2, abs=1e-12)


def test_temperature_divides_the_logits():
    assert kl_divergence(2 * FLAT, 2 * TEACHER, 2.0).item() == pytest.approx(kl_divergence(FLAT, TEACHER, 1.0).item())


def test_qdllm_is_the_formula():
    generator = torch.Generator().manual_seed(3)
    s, t = torch.randn(5, 4, generator=generator), torch.randn(5, 4, generator=generator)
    y = torch.randint(4, (5,), generator=generator)
    terms = qdllm(s, t, y, temperature=3.0, alpha=0.3)
    expected = 0.7 * cross_entropy(s, y) + 0.3 * (9 * kl_divergence(s, t, 3.0) + js_divergence(s, t, 3.0))
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert qdllm(s, t, y, alpha=0.0)["loss"].item() == pytest.approx(cross_entropy(s, y).item(), rel=1e-6)


def test_zero_where_student_is_teacher_and_js_is_symmetric_and_bounded():
    generator = torch.Generator().manual_seed(4)
    s, t = 30 * torch.randn(8, 3, generator=generator), 30 * torch.randn(8, 3, generator=generator)
    assert kl_divergence(t, t, 2.0).item() == pytest.approx(0, abs=1e-6)
    assert js_divergence(s, t, 2.0).item() == pytest.approx(js_divergence(t, s, 2.0).item(), rel=1e-5)
    assert 0 <= js_divergence(s, t, 2.0).item() <= math.log(2) + 1e-6


def test_batch_is_the_mean_of_its_rows():
    generator = torch.Generator().manual_seed(5)
    s, t = torch.randn(6, 3, generator=generator), torch.randn(6, 3, generator=generator)
    y = torch.randint(3, (6,), generator=generator)
    rows = [qdllm(s[i : i + 1], t[i : i + 1], y[i : i + 1])["loss"].item() for i in range(6)]
    assert qdllm(s, t, y)["loss"].item() == pytest.approx(sum(rows) / 6, rel=1e-5)


@pytest.mark.parametrize("large", [1e3, 1e6])
def test_gradients_stay_finite_for_extreme_logits(large):
    s = torch.tensor([[large, -large, 0.0]], requires_grad=True)
    t = torch.tensor([[-large, large, 0.0]])
    qdllm(s, t, torch.tensor([1]))["loss"].backward()
    assert torch.isfinite(s.grad).all()


def test_a_text_without_a_label_takes_part_in_kl_and_js_alone():
    rng = torch.Generator().manual_seed(17)
    student, teacher = (torch.randn(6, 3, generator=rng, dtype=torch.double) for _ in range(2))
    targets = torch.tensor([0, -1, 2, -1, -1, 1])
    known = targets >= 0
    mixed = qdllm(student, teacher, targets)
    labelled = qdllm(student[known], teacher[known], targets[known])
    everyone = qdllm(student, teacher, torch.zeros(6, dtype=torch.long))
    torch.testing.assert_close(mixed["ce"], labelled["ce"] * 3 / 6)
    torch.testing.assert_close(mixed["kl"], everyone["kl"])
    torch.testing.assert_close(mixed["js"], everyone["js"])
    nobody = qdllm(student, teacher, torch.full((6,), -1))
    assert nobody["ce"] == 0 and torch.isfinite(nobody["loss"])


def test_the_published_js_is_what_the_authors_code_computes_and_nearly_blind_to_the_teacher():
    """Against a literal transcription in numpy; the softmax of probabilities hardly depends on them."""
    rng = np.random.default_rng(3)
    s, t, y = rng.normal(size=(6, 3)), 4 * rng.normal(size=(6, 3)), rng.integers(0, 3, 6)

    def softmax(x):
        e = np.exp(x - x.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    log_s, p_t = np.log(softmax(s / 2)), softmax(t / 2)
    m = 0.5 * (softmax(log_s) + softmax(p_t))
    expected = 0.5 * (
        (m * (np.log(m) - np.log(softmax(log_s)))).mean() + (m * (np.log(m) - np.log(softmax(p_t)))).mean()
    )
    arguments = (torch.tensor(s), torch.tensor(t), torch.tensor(y))
    terms, right = losses.qdllm_published(*arguments), losses.qdllm(*arguments)
    assert terms["js"].item() == pytest.approx(expected, rel=1e-9)
    assert terms["ce"].item() == right["ce"].item() and terms["kl"].item() == pytest.approx(right["kl"].item())
    assert abs(terms["js"].item() - right["js"].item()) > 0.01
