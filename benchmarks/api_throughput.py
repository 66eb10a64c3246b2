"""Throughput of the teacher ``api:`` against a server with a fixed latency, divided by the largest possible rate.

python benchmarks/api_throughput.py --texts 1000 --latency 0.2 --concurrency 16
"""

import argparse
import asyncio
import json
import tempfile
import time

import httpx
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from qkd.core.config import ApiSpec, PromptSpec
from qkd.data.dataset import Dataset, split_dataset
from qkd.teachers.api.teacher import ApiTeacher


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--concurrency", type=int, default=16)
    given = parser.parse_args()

    async def answer(request):
        body = json.loads(await request.body())
        await asyncio.sleep(given.latency)
        length = len(body["prompt"]) % 7
        top = {" good": -1.0 - length / 7, " bad": -1.5}
        choice = {"index": 0, "text": " good", "logprobs": {"top_logprobs": [top], "tokens": [" good"]}}
        return JSONResponse({"model": "m", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})

    app = Starlette(routes=[Route("/v1/completions", answer, methods=["POST"])])
    texts = tuple(f"text number {number}" for number in range(given.texts))
    dataset = Dataset(texts, tuple("good" if number % 2 else "bad" for number in range(given.texts)))
    splits = split_dataset(dataset, 0.2, 0.2, 0)
    api = ApiSpec(api_url=("http://server/v1",), api_source="next-token", api_concurrency=given.concurrency)
    teacher = ApiTeacher("m", PromptSpec(prompt=("continue",)), api, transport=httpx.ASGITransport(app))
    started = time.monotonic()
    teacher.fit(dataset, splits)
    teacher.logits(texts)
    seconds = time.monotonic() - started
    allowed = given.texts * given.latency / given.concurrency
    print(f"{given.texts / seconds:.1f} texts/s, {allowed / seconds:.1%} of {given.texts / allowed:.1f} texts/s")


if __name__ == "__main__":
    import os

    with tempfile.TemporaryDirectory() as folder:
        os.environ["QKD_CACHE"] = folder
        main()
