"""Kills of ``qkd teach`` with an ``api:`` teacher: identical files, and no answer is paid for twice."""

import os
import random
import shutil
import signal
from collections import Counter

import pandas as pd
import pytest

from qkd.teachers.causal_lm import CausalLM
from tests.models.conftest import save_model
from tests.processes import at_call, qkd, start
from tests.teachers.endpoint import Server, corpus, listening, write_prompt

COUNT = max(2, int(20 * float(os.environ.get("QKD_FAULTS", "1"))))
FIRST = int(os.environ.get("QKD_FAULTS_SEED", "0"))
TEXTS = 40


@pytest.mark.faults
def test_kills_of_teach(tmp_path):
    lm, prompt = CausalLM(str(save_model(tmp_path / "model"))), write_prompt(tmp_path)
    server, (dataset, _) = Server(lm.network, lm.tokenizer), corpus(TEXTS)
    pd.DataFrame({"text": dataset.texts, "label": dataset.labels}).to_csv(tmp_path / "data.csv", index=False)
    with listening(server) as url:
        words = ["teach", f"--data={tmp_path / 'data.csv'}", "--teacher=api:tiny", f"--api-url={url}"]
        words += [f"--prompt={prompt}", "--api-source=next-token", "--price=1,1", "--max-cost=9"]
        kills = repeated = seed = 0
        expected = b""
        while kills < COUNT:
            drawn, folder = random.Random(FIRST + seed), tmp_path / str(seed)
            folder.mkdir()
            out, env = folder / "out.parquet", {**os.environ, "QKD_CACHE": str(folder / "cache")}
            at_writes = seed % 3 > 0
            command = [*words, f"--api-concurrency={1 if at_writes else 4}", f"--out={out}"]
            server.requests.clear()
            killed = 0
            while expected and killed < 30:
                if at_writes:
                    after, times = drawn.choice([("os:write", 12), ("os:fsync", 4), ("os:replace", 2)])
                    code = at_call(
                        *command, after=after, times=drawn.randint(1, times), then=signal.SIGKILL, env=env
                    ).returncode
                else:
                    code = killed_after(drawn.uniform(0.05, 1.0), command, folder, env)
                if code == 0:
                    break
                assert code == -signal.SIGKILL
                killed += 1
            done = qkd(*command, env=env)
            assert done.returncode == 0, (seed, done.stderr)
            expected = expected or out.read_bytes()
            assert out.read_bytes() == expected, seed
            asked = Counter(body["prompt"] for _, body in server.requests)
            paid = [asked[f"{text} the"] for text in dataset.texts]
            again = sum(paid) - TEXTS
            assert min(paid) == 1 and again <= (0 if at_writes else 4 * killed), seed  # four requests were in flight
            kills, repeated, seed = kills + killed, repeated + again, seed + 1
            print(f"{kills:,} kills of {seed:,} jobs, {repeated:,} requests in flight were repeated")
            shutil.rmtree(folder)


def killed_after(seconds, command, folder, env):
    """Run ``qkd`` and kill it after some seconds; return its exit code."""
    process = start(command, [folder / "stdout", folder / "stderr"], env=env)
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        process.join()
    return process.exitcode
