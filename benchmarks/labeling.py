"""Texts a second that a 135M-parameter LM reads: qkd's batches beside a plain loop over transformers.

Both compute the same thing, the mean over real tokens of the last layer's states, and their answers are compared. The
plain loop follows the library's own examples. It takes texts in order, a fixed number at a time, padded to the
longest of them (``longest``) or all to one length (``fixed``), without gradients. They take turns within a round;
ratios are of medians over rounds, so a machine that drifts does not matter.

    python benchmarks/labeling.py [--data FILE] [--texts 256] [--rounds 3] [--model smollm2-135m]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer

from qkd.data import loading as data
from qkd.data.dataset import shuffled_by_content
from qkd.models import weights
from qkd.models.backbone import Backbone

BATCH = 32


def plain(network: torch.nn.Module, tokenizer, texts: list[str], padding: str, width: int) -> np.ndarray:
    """Return the mean last-layer states (N,D) by a loop over batches of ``BATCH`` texts."""
    found = []
    for start in range(0, len(texts), BATCH):
        options = {"padding": padding, "truncation": True, "max_length": width, "return_tensors": "pt"}
        batch = tokenizer(texts[start : start + BATCH], **options)
        with torch.no_grad():
            states = network(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(2)
        found.append(((states * mask).sum(dim=1) / mask.sum(dim=1)).numpy())
    return np.concatenate(found)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="docstrings")
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="smollm2-135m")
    asked = parser.parse_args()
    dataset = data.load_dataset(asked.data)
    texts = [dataset.texts[row] for row in shuffled_by_content(dataset.texts, 0)[: asked.texts]]
    backbone = Backbone(asked.model)
    path = weights.resolve(asked.model).path
    tokenizer = AutoTokenizer.from_pretrained(path)
    network = AutoModel.from_pretrained(path, dtype=torch.float32).eval()
    lengths = [len(ids) for ids in backbone.tokens(texts)]
    ways = {
        "qkd: sorted, token budget": lambda: backbone.pooled(texts, [backbone.num_layers])[:, 0],
        f"plain: {BATCH} in order, longest": lambda: plain(network, tokenizer, texts, "longest", backbone.max_tokens),
        f"plain: {BATCH} in order, fixed": lambda: plain(network, tokenizer, texts, "max_length", max(lengths)),
    }
    answers = {name: way() for name, way in ways.items()}  # warm, and compared
    first = next(iter(answers))
    for name, rows in answers.items():
        worst = float(np.abs(rows - answers[first]).max() / np.abs(answers[first]).max())
        if worst > 1e-4:
            raise SystemExit(f"{name} computes something else: relative difference {worst:.1e}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    print(
        f"{len(texts)} texts of {asked.data}, {np.mean(lengths):.0f} tokens on average, {max(lengths)} at most; "
        f"{asked.model}, {torch.get_num_threads()} threads, {asked.rounds} rounds\n"
    )
    print("| loop | texts/s | qkd is faster by |\n| --- | --- | --- |")
    for name, values in seconds.items():
        ratio = statistics.median(values) / statistics.median(seconds[first])
        print(f"| {name} | {len(texts) / statistics.median(values):.1f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
