"""Throughput of the teacher ``api:`` against a server with a fixed latency, divided by the largest possible rate.

python benchmarks/api_throughput.py --texts 1000 --latency 0.2 --concurrency 16

The server runs in a process of its own. The time includes the test of the source, which takes two answers one after
another, and the calibration. It excludes imports, among them those of httpx at its first request.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import tempfile
import time

import httpx
import scipy.optimize  # noqa: F401
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from qkd.core.teacher_config import ApiSpec, PromptSpec
from qkd.data.dataset import Dataset, split_dataset
from qkd.teachers.api.teacher import ApiTeacher


def serve(latency, connection):
    """Answer completions after ``latency`` seconds, on a free port that ``connection`` receives."""

    async def answer(request):
        body = json.loads(await request.body())
        await asyncio.sleep(latency)
        length = len(body["prompt"]) % 7
        top = {" good": -1.0 - length / 7, " bad": -1.5}
        choice = {"index": 0, "text": " good", "logprobs": {"top_logprobs": [top], "tokens": [" good"]}}
        return JSONResponse({"model": "m", "choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": 1}})

    async def run():
        app = Starlette(routes=[Route("/v1/completions", answer, methods=["POST"])])
        server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
        task = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        connection.send(server.servers[0].sockets[0].getsockname()[1])
        await task

    asyncio.run(run())


async def first_request(url):
    """Let httpx import what it needs."""
    async with httpx.AsyncClient() as client:
        await client.get(url)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.2, help="seconds")
    parser.add_argument("--concurrency", type=int, default=16)
    given = parser.parse_args()
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(given.latency, theirs), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    asyncio.run(first_request(url))
    texts = tuple(f"text number {number}" for number in range(given.texts))
    dataset = Dataset(texts, tuple("good" if number % 2 else "bad" for number in range(given.texts)))
    splits = split_dataset(dataset, 0.2, 0.2, 0)
    api = ApiSpec(api_url=(url,), api_source="next-token", api_concurrency=given.concurrency)
    teacher = ApiTeacher("m", PromptSpec(prompt=("continue",)), api)
    load, before = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    teacher.fit(dataset, splits)
    teacher.logits(texts)
    seconds = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    allowed = given.texts * given.latency / given.concurrency
    print(f"{given.texts / seconds:.1f} texts/s, {allowed / seconds:.1%} of {given.texts / allowed:.1f} texts/s")
    print(f"{1000 * cpu / given.texts:.2f} ms of CPU time for each text; load of the machine: {load:.1f}")
    server.kill()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["QKD_CACHE"] = folder
        main()
