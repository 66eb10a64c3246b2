"""Distillation losses: pure functions of student logits s, teacher logits t (both (B,C)) and targets y (B,)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from qkd.core import objects
from qkd.core.errors import ConfigError

Terms = dict[str, torch.Tensor]
"""Scalar terms by name; "loss" is the one that training minimizes."""


UNLABELED = -1
"""Target of a text that only the teacher has labeled: it contributes to KL and JS, not to CE."""


def softened(logits: torch.Tensor, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(p, log p)`` with ``p = softmax(logits / T)``, each (B,C)."""
    log_p = functional.log_softmax(logits / temperature, dim=-1)
    return log_p.exp(), log_p


def cross_entropy(student: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return CE(s, y) at temperature 1, mean over the batch, in nats; an unlabeled text adds 0 to the sum."""
    return functional.cross_entropy(student, targets, ignore_index=UNLABELED, reduction="sum") / len(targets)


def kl_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return KL(p_t || p_s) of the softened distributions, mean over the batch, in nats."""
    p, log_p = softened(teacher, temperature)
    _, log_q = softened(student, temperature)
    return _relative_entropy(p, log_p, log_q)


def js_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the Jensen-Shannon divergence of the softened distributions, in [0, ln 2], mean over the batch."""
    p, log_p = softened(teacher, temperature)
    q, log_q = softened(student, temperature)
    log_m = torch.logaddexp(log_p, log_q) - torch.log(torch.tensor(2.0, dtype=log_p.dtype, device=log_p.device))
    return 0.5 * (_relative_entropy(p, log_p, log_m) + _relative_entropy(q, log_q, log_m))


def _relative_entropy(p: torch.Tensor, log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    # where p underflows to 0 its term is 0, even if a logarithm is infinite
    ratio = torch.where(p > 0, log_p - log_q, torch.zeros_like(log_p))
    return (p * ratio).sum(dim=-1).mean()


def qdllm(
    student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, temperature: float = 2.0, alpha: float = 0.5
) -> Terms:
    """Return QD-LLM's loss ``(1-a) CE(s,y) + a [T^2 KL(p_t || p_s) + JS(p_t, p_s)]``, p = softmax(./T).

    Source: Li et al., arXiv:2505.13205 (the loss), and Hinton et al., arXiv:1503.02531 (the factor T^2).
    """
    ce = cross_entropy(student, targets)
    kl = temperature**2 * kl_divergence(student, teacher, temperature)
    js = js_divergence(student, teacher, temperature)
    return {"loss": (1 - alpha) * ce + alpha * (kl + js), "ce": ce, "kl": kl, "js": js}


def qdllm_published(
    student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, temperature: float = 2.0, alpha: float = 0.5
) -> Terms:
    """Return QD-LLM's loss with JS as the authors' public code computes it, to measure the effect.

    The public code passes ``log p_s`` and ``p_t`` through a second softmax. That is harmless for a logarithm, but the
    softmax of probabilities is nearly flat. The code takes the divergence from the mean to each side and averages it
    over classes as well as texts.
    """
    p, log_p = softened(teacher, temperature)
    q, log_q = softened(student, temperature)
    flat, log_flat = softened(p, 1.0)  # the second softmax
    m = 0.5 * (q + flat)
    js = 0.5 * ((m * (m.log() - log_q)).mean() + (m * (m.log() - log_flat)).mean())
    ce = cross_entropy(student, targets)
    kl = temperature**2 * _relative_entropy(p, log_p, log_q)
    return {"loss": (1 - alpha) * ce + alpha * (kl + js), "ce": ce, "kl": kl, "js": js}


LOSSES: dict[str, Callable[..., Terms]] = {"qdllm": qdllm, "qdllm-published": qdllm_published}
"""Losses by the name that ``--loss`` takes; a new loss is one function, one entry here and one in ``LossSpec``."""


def find_loss(name: str) -> Callable[..., Terms]:
    """Return the loss called ``name``.

    Raises:
        ConfigError: it is a function that this process does not know.
    """
    if not objects.is_object(name):
        return LOSSES[name]
    function = objects.find("loss", name)

    def terms(student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor, **_: float) -> Terms:
        return {"loss": _value(function, student, teacher, targets)}

    return terms


def check_loss(function: Any) -> str:
    """Return a name for a function that is a loss, which contains a hash of its values at fixed logits.

    Raises:
        ConfigError: it is no function of (student logits, teacher logits, labels) with a differentiable scalar value.
    """
    if not callable(function) or isinstance(function, type):
        raise ConfigError(
            f"loss is a {type(function).__name__}; give one of {', '.join(LOSSES)}, or a function of (student logits, "
            "teacher logits, labels) that returns a scalar tensor"
        )
    random = torch.Generator().manual_seed(0)
    values = []
    for classes in (2, 3, 4):
        student, teacher = (torch.randn(8, classes, generator=random) for _ in range(2))
        targets = torch.randint(classes, (8,), generator=random)
        values.append(_value(function, student.requires_grad_(), teacher, targets))
    if not all(value.requires_grad for value in values):
        raise ConfigError("the loss does not depend on the student's logits through torch; use torch functions")
    text = " ".join(f"{value.item():.5g}" for value in values)
    return f"{objects.label(function)}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _value(function: Any, student: torch.Tensor, teacher: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the value of a caller's loss on a batch."""
    try:
        value = function(student, teacher, targets)
    except Exception as error:  # the caller's code
        raise ConfigError(
            f"the loss fails on student logits {tuple(student.shape)}, teacher logits and labels "
            f"{tuple(targets.shape)}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(value, torch.Tensor) or value.ndim:
        shape = f" of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else ""
        raise ConfigError(f"the loss returns a {type(value).__name__}{shape}; it must return a scalar tensor")
    return value
