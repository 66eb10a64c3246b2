"""Random sequences of server faults, deaths and new starts: no answer is paid for twice, none is lost or misplaced."""

import os
import random
from collections import Counter

import numpy as np
import pytest

from qkd.core.errors import ServiceError
from qkd.teachers.causal_lm import CausalLM
from tests.models.conftest import save_model
from tests.teachers.endpoint import Server, random_faults
from tests.teachers.test_api import TEMPLATE, corpus, no_sleep, teacher


@pytest.mark.faults
def test_fault_sequences(tmp_path, monkeypatch):
    lm = CausalLM(str(save_model(tmp_path / "model")))
    prompt = tmp_path / "prompt.toml"
    prompt.write_text(f'template = "{TEMPLATE}"\nchat = false\n[verbalizers]\nanimals = ["cat"]\nphysics = ["qubit"]\n')
    server = Server(lm.network, lm.tokenizer)
    dataset, splits = corpus(24)
    whole = teacher(server, str(prompt), api_source="next-token")
    whole.fit(dataset, splits)
    expected = whole.logits(dataset.texts)
    for seed in range(int(200 * float(os.environ.get("QKD_FAULTS", "1")))):
        monkeypatch.setenv("QKD_CACHE", str(tmp_path / f"cache-{seed}"))
        server.requests.clear()
        drawn = random.Random(seed)
        for start in range(20):
            alive = drawn.randrange(5, 60)
            server.faults = mortal(random_faults(drawn.random(), 0.25), alive if start < 19 else 10**9)
            job = teacher(server, str(prompt), sleep=no_sleep, api_source="next-token")
            try:
                job.fit(dataset, splits)
                logits = job.logits(dataset.texts)
                break
            except ServiceError:
                continue
        assert np.allclose(logits, expected, atol=1e-5), seed
        asked = Counter(body["prompt"] for _, body in server.requests)
        paid = [asked[f"{text} the"] for text in dataset.texts]
        assert max(paid) == 1, seed


def mortal(fault, requests):
    """Return faults of a server that dies after a number of requests."""
    left = requests

    async def either(request):
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionResetError
        return await fault(request)

    return either
