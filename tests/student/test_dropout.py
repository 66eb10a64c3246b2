"""Dropout drops what it says, leaves the mean, draws each entry alone and from torch's stream, and only in training."""

import pytest
import torch

from qkd.student.model import Dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.9])
def test_the_share_is_right_and_the_mean_stays(p):
    torch.manual_seed(0)
    x = torch.ones(401, 1023)  # no multiple of eight
    y = Dropout(p)(x)
    kept = round(256 * (1 - p)) / 256
    error = (kept * (1 - kept) / x.numel()) ** 0.5
    assert (y > 0).float().mean().item() == pytest.approx(kept, abs=5 * error)
    assert y.mean().item() == pytest.approx(1, abs=5 * error / kept)
    assert y.unique().tolist() == pytest.approx([0, 1 / kept])


def test_entries_are_drawn_alone():
    torch.manual_seed(1)
    kept = (Dropout(0.5)(torch.ones(4000, 64)) > 0).float() - 0.5
    correlation = 4 * kept.T @ kept / 4000 - torch.eye(64)
    assert correlation.abs().max() < 5 / 4000**0.5
    assert kept.mean(dim=0).abs().max() < 2.5 / 4000**0.5 * 2  # every place in a word of eight bytes alike


def test_it_is_torchs_stream_and_gradients_pass_where_values_do():
    x = torch.randn(5, 7, dtype=torch.float64, requires_grad=True)
    dropout = Dropout(0.4)
    torch.manual_seed(2)
    first = dropout(x)
    torch.manual_seed(2)
    assert torch.equal(first, dropout(x)) and not torch.equal(first, dropout(x))
    first.sum().backward()
    assert torch.equal(x.grad * x, first)
    assert dropout.eval()(x) is x and Dropout(0.0)(x) is x
