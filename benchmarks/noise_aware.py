"""What training under a device's noise buys: several seeds, both ways, on the same texts, exactly evaluated under it.

    python benchmarks/noise_aware.py [--device ibm_brisbane] [--layers 2] [--seeds 5]

Prints one line a seed and the paired interval over seeds and texts.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from qkd import config
from qkd.circuits import library
from qkd.pipeline import make_trainer
from qkd.runs import RunFolder
from qkd.simulation.setting import make_setting
from qkd.sources import Clock, gather
from qkd.student.metrics import accuracy_gain

parser = argparse.ArgumentParser()
parser.add_argument("--device", default="ibm_brisbane")
parser.add_argument("--layers", type=int, default=2)
parser.add_argument("--seeds", type=int, default=5)
given = parser.parse_args()

base = {"engine": {"sim": "aer-noisy", "torch_device": "cpu"}, "device": {"name": given.device}}
logical = library.load("hardware", layers=given.layers)
setting = make_setting(config.make(base), logical)
assert setting.noisy is not None
right: dict[str, list[np.ndarray]] = {"noise-aware": [], "ideal": []}
with tempfile.TemporaryDirectory() as temporary:
    folder = RunFolder(Path(temporary))
    sources = gather(config.make(base), folder, False, Clock())
    test = sources.splits.test
    targets = sources.dataset.targets[test]
    for seed in range(given.seeds):
        spec = config.make({**base, "train": {"seed": seed}})
        for name, circuit, engine in (
            ("noise-aware", setting.circuit, setting.trainer),
            ("ideal", logical, setting.exact),
        ):
            torch.manual_seed(seed)
            trainer = make_trainer(spec, circuit, engine, sources, Path(temporary) / f"{name}-{seed}")
            trainer.run()
            under_noise = trainer.student.moved(setting.circuit, setting.trainer)
            right[name].append(under_noise.logits(sources.embeddings[test]).argmax(axis=1) == targets)
        aware, ideal = (float(right[name][-1].mean()) for name in right)
        print(f"seed {seed}: on the noisy device {aware:.3f} trained with its noise, {ideal:.3f} without", flush=True)
aware, ideal = (np.concatenate(right[name]) for name in ("noise-aware", "ideal"))
# as logits of the right class, so that the library's paired interval can be taken over all seeds' texts
gain = accuracy_gain(np.stack([~aware, aware], 1) * 1.0, np.stack([~ideal, ideal], 1) * 1.0, np.ones(len(aware), int))
means = [a.mean() - b.mean() for a, b in zip(*right.values(), strict=True)]
print(f"{given.device}, {given.layers} layers, {given.seeds} seeds: {100 * gain['value']:+.2f} points")
print(f"paired 95 % interval over texts and seeds {100 * gain['low']:+.2f} to {100 * gain['high']:+.2f}")
print(f"seeds' differences: {', '.join(f'{100 * mean:+.2f}' for mean in means)}")
