"""Random sequences of server faults, deaths and new starts: no answer is paid for twice, none is lost or misplaced.

The clock is virtual, so waits and timeouts cost nothing. Each server answers from a table of a real LM's answers.
"""

import asyncio
import json
import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest

from qkd.core.console import suppressed_output
from qkd.core.errors import QkdError
from qkd.teachers.causal_lm import CausalLM
from tests.models.conftest import save_model
from tests.teachers.endpoint import TEMPLATE, Server, VirtualLoop, corpus, teacher, write_prompt

COUNT = max(1, int(200 * float(os.environ.get("QKD_FAULTS", "1"))))
FIRST = int(os.environ.get("QKD_FAULTS_SEED", "0"))
STATUS = {"429": 429, "limit": 429, "date": 503, "500": 500, "503": 503, "529": 529}
KINDS = (*STATUS, "reset", "unreachable", "lost", "hangs", "drips", "remaining")


class Faulty(httpx.AsyncBaseTransport):
    """A transport to one or two servers that fail at random and die after a number of requests.

    Attributes:
        arrived: The number of complete answers about each prompt.
        alive: Requests until the death of each server.
        refused: Prompts that every server rejects.
    """

    def __init__(self, app):
        self.real, self.table = httpx.ASGITransport(app), {}

    def begin(self, seed, refused):
        self.drawn, self.arrived, self.refused, self.alive = random.Random(seed), Counter(), refused, {}

    async def handle_async_request(self, request):
        content, host = await request.aread(), request.url.host
        self.alive[host] = self.alive.get(host, 10**9) - 1
        if self.alive[host] < 0:
            raise httpx.ConnectError("refused")
        await asyncio.sleep(self.drawn.expovariate(1.0))  # answers arrive in any order
        kind = self.drawn.choice(KINDS) if self.drawn.random() < 0.25 else ""
        if kind == "reset":
            raise httpx.ReadError("reset")
        if kind == "unreachable":
            raise httpx.ConnectTimeout("no route")
        if kind == "hangs":
            await asyncio.sleep(10**6)
        if kind in STATUS:
            headers = {"limit": {"retry-after": "7"}, "date": {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"}}
            return httpx.Response(STATUS[kind], headers=headers.get(kind, {}), text="<html>busy</html>")
        if (key := (request.url.path, content)) not in self.table:
            response = await self.real.handle_async_request(request)
            self.table[key] = response.status_code, await response.aread()
        status, answer = self.table[key]
        prompt = json.loads(content).get("prompt") if content else None
        if prompt in self.refused:
            status, answer = 400, b'{"error": {"message": "content policy"}}'
        if kind == "lost":  # computed, and the connection breaks before the end
            return httpx.Response(status, content=broken(answer))
        if kind == "drips":
            return httpx.Response(status, content=endless(answer))
        if status == 200:
            self.arrived[prompt] += 1
        limit = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1m3s"}
        return httpx.Response(status, content=answer, headers=limit if kind == "remaining" else {})


async def broken(answer):
    yield answer[: len(answer) // 2]
    raise httpx.RemoteProtocolError("incomplete")


async def endless(answer):
    while True:
        await asyncio.sleep(1)
        yield b" "


@pytest.mark.faults
def test_fault_sequences(tmp_path, monkeypatch):
    monkeypatch.setattr(asyncio.events, "new_event_loop", VirtualLoop)
    lm, prompt = CausalLM(str(save_model(tmp_path / "model"))), write_prompt(tmp_path)
    server = Server(lm.network, lm.tokenizer)
    transport = Faulty(server.app)
    dataset, splits = corpus(24)
    prompts = [TEMPLATE.replace("{text}", text) for text in dataset.texts]
    whole = teacher(server, prompt, api_source="next-token")
    with suppressed_output():
        whole.fit(dataset, splits)
    expected = whole.scores(dataset.texts)
    assert len(np.unique(expected, axis=0)) == len(expected)  # a misplaced answer is a wrong one
    starts = 0
    for seed in range(FIRST, FIRST + COUNT):
        drawn = random.Random(seed)
        folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else tmp_path))
        monkeypatch.setenv("QKD_CACHE", str(folder))
        transport.begin(seed, set(drawn.sample(prompts, drawn.choice([0, 0, 1, 2]))))
        urls = tuple(f"http://{host}/v1" for host in ("a", "b")[: drawn.choice([1, 2])])
        for start in range(30):
            transport.alive = {host: drawn.randrange(5, 60) if start < 29 else 10**9 for host in ("a", "b")}
            job = teacher(server, prompt, transport, api_source="next-token", api_url=urls)
            try:
                with suppressed_output():
                    job.fit(dataset, splits)
                    scores = job.scores(dataset.texts)
                break
            except QkdError:
                starts += 1
        refused = [text in transport.refused for text in prompts]
        assert np.isnan(scores[refused]).all(), seed  # no answer is invented
        assert np.allclose(scores, np.where(np.array(refused)[:, None], np.nan, expected), 1e-5, equal_nan=True), seed
        assert {transport.arrived[text] for text in prompts if text not in transport.refused} == {1}, seed
        shutil.rmtree(folder)
        if seed % 100 == 99:
            print(f"{seed + 1 - FIRST:,} sequences with {starts:,} new starts after all servers died")
