"""The teacher ``api:`` against a real causal LM behind an OpenAI-compatible server."""

import asyncio
import json
import shutil
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from qkd.core import cache
from qkd.core.config import make_config
from qkd.core.errors import BudgetError, ConfigError, ModelError, ServiceError
from qkd.core.teacher_config import ApiSpec, PromptSpec
from qkd.data.dataset import Dataset, split_dataset
from qkd.teachers.api.endpoint import Endpoint, safe_url
from qkd.teachers.api.teacher import ApiTeacher
from qkd.teachers.causal_lm import CausalLM
from qkd.teachers.prompt import PromptTeacher
from tests.models.conftest import byte_tokenizer
from tests.teachers.endpoint import (
    TEMPLATE,
    Server,
    VirtualLoop,
    corpus,
    listening,
    random_faults,
    teacher,
    write_prompt,
)


@pytest.fixture(scope="module")
def lm(model):
    return CausalLM(str(model))


@pytest.fixture
def server(lm):
    return Server(lm.network, lm.tokenizer)


@pytest.fixture
def prompt(tmp_path):
    return write_prompt(tmp_path)


@pytest.fixture(autouse=True)
def virtual_time(request, monkeypatch):
    if "url" not in request.fixturenames:
        monkeypatch.setattr(asyncio.events, "new_event_loop", VirtualLoop)


@pytest.mark.parametrize(
    "deviations",
    [
        (),
        ("one_prompt",),
        ("no_echo", "prompt_logprobs"),
        ("bytes",),
        ("offsets",),
        ("shuffled",),
        ("swapped",),
        ("no_usage",),
    ],
)
def test_likelihoods_equal_those_of_the_local_model(server, model, tmp_path, deviations):
    server.deviations |= set(deviations)
    long_prompt = write_prompt(tmp_path, animals='["red ball", "cat"]', physics='["gate ends"]')
    dataset, splits = corpus()
    remote = teacher(server, long_prompt, api_source="likelihoods")
    remote.fit(dataset, splits)
    local = PromptTeacher(str(model), None, PromptSpec(prompt=(long_prompt,), calibrate="none"))
    local.fit(dataset, splits)
    assert np.abs(remote.scores(dataset.texts) - local.scores(dataset.texts)).max() < 1e-4
    # calibration multiplies scores by an inverse temperature of up to 20
    assert np.allclose(remote.logits(dataset.texts), local.logits(dataset.texts), rtol=1e-3, atol=2e-3)
    assert remote.describe().endpoint.source == "likelihoods"


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    """A random LM with a byte-level tokenizer that adds a first token, as Llama's, and a chat template with one."""
    from tokenizers.processors import TemplateProcessing
    from transformers import LlamaConfig, LlamaForCausalLM

    folder, tokenizer = tmp_path_factory.mktemp("chat"), byte_tokenizer()
    first = [("<end>", tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<end> $A", special_tokens=first)
    tokenizer.chat_template = (
        "<end>{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}\n{% endfor %}"
        "{% if add_generation_prompt %}[assistant]\n{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
    network = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=1024, **sizes))
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(4 if weight.ndim > 1 else 1)
    network.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("template", [True, False])
@pytest.mark.parametrize(("source", "examples"), [("likelihoods", 0), ("likelihoods", 1), ("score", 0)])
def test_a_chat_template_is_used_where_the_local_model_uses_it(chat_model, tmp_path, template, source, examples):
    path = tmp_path / "prompt.toml"
    words = ('["th"]', '["s"]') if source == "score" else ('["cat", "red ball"]', '["qubit"]')
    path.write_text(
        'template = "Animals or physics?\\n{text}"\nsystem = "Be brief."\n[verbalizers]\n'
        f"animals = {words[0]}\nphysics = {words[1]}\n"
    )
    if not template:
        folder = tmp_path / "base"
        shutil.copytree(chat_model, folder, ignore=shutil.ignore_patterns("chat_template*"))
        chat_model = folder
    lm = CausalLM(str(chat_model))
    assert bool(lm.tokenizer.chat_template) == template
    spec = PromptSpec(prompt=(str(path),), calibrate="none", examples=examples)
    local = PromptTeacher(str(chat_model), None, spec)
    server = Server(lm.network, lm.tokenizer, "tiny", "vllm", "score")
    settings = ApiSpec(api_url=("http://lm/v1",), api_source=source)
    remote = ApiTeacher("tiny", spec, settings, httpx.ASGITransport(server.app))
    dataset, splits = corpus(32)
    local.fit(dataset, splits)
    remote.fit(dataset, splits)
    assert ("[assistant]" in local.describe().prompt) == template
    assert np.abs(remote.scores(dataset.texts) - local.scores(dataset.texts)).max() < 1e-4
    for others in ({"score"}, {"score", "ignores_messages"}) if template else ():  # it chats, and does not disclose how
        server.deviations = others
        with pytest.raises(ModelError, match=r"does not disclose its chat template .* chat = false"):
            ApiTeacher("tiny", spec, settings, httpx.ASGITransport(server.app)).fit(dataset, splits)


def test_next_token_and_score_have_the_same_argmax_as_the_local_model(server, model, prompt):
    dataset, splits = corpus()
    local = PromptTeacher(str(model), None, PromptSpec(prompt=(prompt,), calibrate="none"))
    local.fit(dataset, splits)
    for deviations, source in (({"score"}, "score"), ({"sglang"}, "score"), (set(), "next-token")):
        server.deviations = deviations
        remote = teacher(server, prompt, api_source=source)
        remote.fit(dataset, splits)
        same = remote.logits(dataset.texts).argmax(axis=1) == local.logits(dataset.texts).argmax(axis=1)
        assert same.mean() >= 0.99


@pytest.mark.parametrize(("chat", "deviations"), [("true", set()), ("false", {"no_completions", "lists_all"})])
def test_labels_of_one_token_are_scored_themselves_in_a_chat(server, tmp_path, chat, deviations):
    server.deviations |= deviations
    dataset, splits = corpus()
    remote = teacher(server, write_prompt(tmp_path, chat=chat), api_source="next-token")
    remote.fit(dataset, splits)
    scores, listed = remote.scores(dataset.texts), "lists_all" in deviations
    for text, row in zip(dataset.texts, scores, strict=True):
        table = server.logprobs(server.ids(server.rendered({"messages": remote._source.question.messages(text)})))[-1]
        exact = table[[server.ids("cat")[-1], server.ids("qubit")[-1]]].numpy()
        top = table.topk(20).values.min().item()  # what is not listed is not more probable
        assert np.allclose(row, exact if listed else np.maximum(row, exact), atol=1e-5)
        assert listed or np.all((np.abs(row - exact) < 1e-5) | (exact <= top))
    assert (remote.describe().endpoint.unlisted > 1e-6) != listed


def test_votes_are_within_their_standard_error(server, prompt):
    torch.manual_seed(0)
    dataset, splits = corpus(200)
    remote = teacher(server, prompt, api_source="votes", api_votes=20)
    remote.fit(dataset, splits)
    exact = []
    for text in dataset.texts:
        table = server.logprobs(server.ids(server.rendered({"messages": remote._source.question.messages(text)})))[-1]
        exact.append(table[[server.ids(" cat")[-1], server.ids(" qubit")[-1]]].softmax(dim=0)[0].item())
    voted = np.exp(remote.scores(dataset.texts))[:, 0]
    errors = np.sqrt(voted * (1 - voted) / 20)
    assert (np.abs(voted - exact) <= 1.96 * errors).mean() >= 0.95
    assert remote.describe().endpoint.standard_error == pytest.approx(errors.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("deviations", "source"),
    [
        ({"no_echo"}, "next-token"),
        ({"stale"}, "next-token"),
        ({"prompt_wrong"}, "next-token"),
        ({"no_logprobs"}, "votes"),
        ({"no_completions", "no_logprobs"}, "votes"),
        ({"zeros"}, "next-token"),
        ({"nulls"}, "next-token"),
        ({"jitter"}, "next-token"),
        ({"no_logprobs", "one_sample"}, "votes"),
        ({"no_logprobs", "thinks"}, "votes"),
        ({"thinks", "no_completions"}, "votes"),
        ({"no_echo", "prompt_logprobs", "markers"}, "next-token"),
        ({"no_echo", "collide"}, "next-token"),  # as a chat, whose list may contain one text twice
        ({"no_echo", "sampled"}, "votes"),
        ({"no_logprobs", "schema_ignored"}, "votes"),
        ({"no_logprobs", "old_limit"}, "votes"),
        ({"no_logprobs", "new_limit"}, "votes"),
    ],
)
def test_silent_faults_lead_to_another_source(server, prompt, deviations, source):
    server.deviations |= deviations
    dataset, splits = corpus()
    remote = teacher(server, prompt, api_votes=5)
    remote.fit(dataset, splits)
    used = remote.describe().endpoint
    assert used.source == source and used.rejected
    assert not server.unlimited  # no answer without an end


@pytest.mark.parametrize("deviation", ["no_schema", "empty", "spent"])
def test_a_server_without_any_usable_source_is_refused(server, prompt, deviation):
    server.deviations |= {"no_logprobs", deviation}
    dataset, splits = corpus()
    with pytest.raises(ModelError, match=r"no usable probabilities.*likelihoods.*votes"):
        teacher(server, prompt).fit(dataset, splits)


@pytest.mark.parametrize("seed", range(8))
def test_faults_lose_nothing_and_pay_nothing_twice(server, prompt, seed):
    server.faults = random_faults(seed)
    dataset, splits = corpus(24)
    remote = teacher(server, prompt, api_source="next-token")
    remote.fit(dataset, splits)
    logits = remote.logits(dataset.texts)
    server.faults = None
    again = teacher(server, prompt, api_source="next-token")
    asked = [body["prompt"] for _, body in server.requests]
    again.fit(dataset, splits)
    assert np.allclose(again.logits(dataset.texts), logits, atol=1e-5)
    tests = 8  # requests of the test of the source
    assert len(server.requests) - len(asked) <= tests
    own = [body for body in asked if any(body.startswith(text) for text in dataset.texts)]
    assert len(own) == len(set(own)) == len(dataset.texts)


def test_a_job_continues_after_its_server_died(server, prompt):
    dataset, splits = corpus(40)
    remote = teacher(server, prompt, api_source="next-token")
    left = 20

    async def dies(_):
        nonlocal left
        left -= 1
        if left < 0:
            raise ConnectionResetError

    server.faults = dies
    with pytest.raises(ServiceError, match="no server is left"):
        remote.fit(dataset, splits)
    server.faults = None
    before = len(server.requests)
    remote.fit(dataset, splits)
    assert remote.budget.spent.requests == len(server.requests)
    again = teacher(server, prompt, api_source="next-token")
    again.fit(dataset, splits)
    again.logits(dataset.texts)
    assert len(server.requests) - before < 40


def test_texts_of_a_server_that_dies_are_asked_of_the_others(server, prompt):
    class OneDies(httpx.ASGITransport):
        left = 12

        async def handle_async_request(self, request):
            if request.url.host == "b":
                self.left -= 1
                if self.left < 0:
                    raise (httpx.ConnectError if self.left < -4 else httpx.ReadError)("reset")
            return await super().handle_async_request(request)

    dataset, splits = corpus()
    urls = ("http://b/v1", "http://a/v1")
    remote = teacher(server, prompt, OneDies(server.app), api_source="next-token", api_url=urls)
    started = VirtualLoop.now
    remote.fit(dataset, splits)
    assert VirtualLoop.now - started < 20  # the other server does not wait for one that is dead
    alone = teacher(server, prompt, api_source="next-token")
    alone.fit(dataset, splits)
    assert np.array_equal(remote.scores(dataset.texts), alone.scores(dataset.texts))


@pytest.mark.parametrize(
    "wait", ["30", "30s", format_datetime(datetime.now(UTC) + timedelta(days=1))], ids=["number", "unit", "date"]
)
def test_a_limit_of_the_server_is_kept_by_all_requests_and_printed(server, prompt, wait, capsys):
    from starlette.responses import JSONResponse

    times = []

    async def limited(_):
        times.append(VirtualLoop.now)
        if len(times) == 20:
            return JSONResponse({"error": {"message": "too many"}}, 429, {"retry-after": wait})
        return None

    server.faults = limited
    dataset, splits = corpus()
    teacher(server, prompt, api_source="next-token").fit(dataset, splits)
    gaps = np.diff(times)
    assert gaps.max() >= 30 and (gaps > 1).sum() == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "waiting" in line and "too many" in line]
    assert len(lines) == 1 and "429" in lines[0]


def test_the_progress_shows_rate_time_left_tokens_and_cost(server, prompt, capsys, monkeypatch):
    settings = {"api_source": "next-token", "price": "1e4,2e4", "max_cost": 1e3, "api_concurrency": 2}
    dataset, splits = corpus()
    remote = teacher(server, prompt, **settings)
    remote.fit(dataset, splits)
    spent, asked = remote.budget.spent, len(server.requests)
    before = spent.prompt_tokens, spent.completion_tokens

    async def slow(_):
        await asyncio.sleep(3)

    server.faults = slow
    capsys.readouterr()
    real, virtual = time.monotonic(), VirtualLoop.now
    monkeypatch.setattr("qkd.core.console.time.monotonic", lambda: real + VirtualLoop.now - virtual)
    remote.scores([f"the cat {'a ' * number}" for number in range(40)])  # 20 times two answers in three seconds
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("asking tiny: ")]
    assert len(lines) == 6  # one in ten seconds, and the last one
    usage = [len(server.ids(json.dumps(body["prompt"]))) for _, body in server.requests[asked:]]
    for line in lines:
        done = int(line.split()[2].partition("/")[0])
        tokens = sum(before) + sum(usage[:done]) + done
        dollars = (before[0] + sum(usage[:done])) / 100 + (before[1] + done) / 50
        rate = done / (3 * -(-done // 2))
        left = f", {(40 - done) / rate:.0f} s left" if done < 40 else ""
        assert line == f"asking tiny: {done}/40 texts, {rate:.1f}/s{left} ({tokens:,} tokens, ${dollars:,.2f})"


def test_a_budget_is_a_limit_and_needs_a_price(server, prompt):
    dataset, splits = corpus()
    with pytest.raises(BudgetError, match="above max_cost"):
        teacher(server, prompt, price="1000,1000", max_cost=0.01).fit(dataset, splits)
    assert not server.requests
    with pytest.raises(ConfigError, match="need each other"):
        make_config({"api": {"price": "1,2"}})
    remote = teacher(server, prompt, price="1,1", max_cost=5)
    remote.fit(dataset, splits)
    card = remote.describe().endpoint
    assert card.dollars == pytest.approx((card.prompt_tokens + card.completion_tokens) / 1e6, abs=1e-6)


def test_a_job_stops_at_its_limit_and_a_higher_one_continues(server, prompt):
    settings = {"api_source": "next-token", "price": "1e3,1e3", "api_concurrency": 8}
    dataset, splits = corpus()
    remote = teacher(server, prompt, **settings, max_cost=1e3)
    remote.fit(dataset, splits)
    more = [f"the cat and the number{number}" for number in range(80)]
    remote.budget.limit = limit = remote.budget.dollars(remote.budget.spent) + 0.4
    before = len(server.requests)
    with pytest.raises(BudgetError, match="the same command with a higher limit continues"):
        remote.scores(more)
    spent = remote.budget.dollars(remote.budget.spent)
    assert limit - 0.1 < spent <= limit and len(server.requests) - before < len(more)
    remote.budget.limit = 1e3
    remote.scores(more)
    assert len(server.requests) - before == len(more)


def test_a_budget_holds_on_a_server_that_reports_no_tokens(server, prompt):
    server.deviations |= {"no_usage"}
    dataset, splits = corpus()
    remote = teacher(server, prompt, price="1,1", max_cost=5)
    remote.fit(dataset, splits)
    used = remote.describe().endpoint
    assert used.estimated == used.requests > 0
    characters = sum(len(f"{text} the") for text in dataset.texts)
    assert used.dollars * 1e6 > characters / 5
    with pytest.raises(BudgetError, match="all answers so far are stored"):
        remote.budget.limit = used.dollars / 2
        remote.scores(["a text that was not asked about"])


def test_a_second_job_counts_what_the_first_one_paid(server, prompt):
    dataset, splits = corpus()
    used = []
    for _ in range(2):
        remote = teacher(server, prompt, api_source="next-token", price="1,1", max_cost=5)
        remote.fit(dataset, splits)
        remote.logits(dataset.texts)
        used.append(remote.describe().endpoint)
    assert used[0] == used[1] and used[0].requests > len(dataset.texts)


def test_a_prompt_that_the_server_cuts_is_refused(server, prompt):
    server.deviations |= {"cuts"}
    dataset, splits = corpus()
    teacher(server, prompt).fit(dataset, splits)  # all texts fit
    texts = (*dataset.texts[:-1], "the cat is red and the qubit is here " * 40)
    with pytest.raises(ModelError, match="reads only 200 tokens of a prompt and cuts the rest"):
        teacher(server, prompt).fit(Dataset(texts, dataset.labels), splits)


def test_a_chat_prompt_is_asked_as_a_chat(server, tmp_path):
    path = tmp_path / "chat.toml"
    path.write_text('template = "{text}"\nsystem = "Be brief."\nchat = true\n')
    dataset, splits = corpus()
    remote = teacher(server, str(path))
    remote.fit(dataset, splits)
    assert remote.describe().endpoint.source == "votes"
    assert {path for path, _ in server.requests} == {"chat/completions"}
    assert server.requests[-1][1]["messages"][0] == {"role": "system", "content": "Be brief."}


def test_refused_texts_are_left_to_their_labels(server, prompt):
    dataset, splits = corpus()
    refused = dataset.texts[splits.train[0]]

    async def refuses(request):
        body = json.loads(await request.body())
        if body.get("prompt") == f"{refused} the":
            return httpx_error(400)
        return None

    def httpx_error(status):
        from starlette.responses import JSONResponse

        return JSONResponse({"error": {"message": "content policy"}}, status)

    server.faults = refuses
    remote = teacher(server, prompt, api_source="next-token")
    remote.fit(dataset, splits)
    row = remote.logits([refused])[0]
    assert row.argmax() == dataset.targets[splits.train[0]]
    assert remote.describe().endpoint.unanswered == 1
    server.faults = None  # the next job repeats a request that cost nothing
    again = teacher(server, prompt, api_source="next-token")
    again.fit(dataset, splits)
    assert np.isfinite(again.scores([refused])).all() and not again.describe().endpoint.unanswered


def test_wrong_answers_of_a_server_are_one_sentence(server, prompt):
    from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse

    dataset, splits = corpus()
    server.deviations |= {"any_model"}  # it would answer any name
    with pytest.raises(ModelError, match="did you mean 'tiny'"):
        other = teacher(server, prompt)
        other.model = "tinny"
        other.fit(dataset, splits)

    async def html(_):
        return HTMLResponse("<html>proxy</html>")

    server.faults = html
    with pytest.raises(ModelError, match=r"likelihoods, next-token, votes: .* no JSON but '<html>"):
        teacher(server, prompt).fit(dataset, splits)

    async def moved(_):
        return RedirectResponse("https://user:pass@elsewhere/v1?key=sk-secret")

    server.faults = moved
    with pytest.raises(ModelError, match="redirects to 'https://elsewhere/v1'"):
        teacher(server, prompt).fit(dataset, splits)

    async def quotes(request):
        return JSONResponse({"detail": [{"msg": f"wrong: {await request.body()}"}]}, 422)

    server.faults = quotes
    with pytest.raises(ModelError, match="the reason quotes the request") as caught:
        teacher(server, prompt).fit(dataset, splits)
    assert "wonderful" not in str(caught.value)

    async def denied(_):
        return HTMLResponse("who are you", 401)

    server.faults = denied
    with pytest.raises(ServiceError, match="OPENAI_API_KEY"):
        teacher(server, prompt).fit(dataset, splits)


def test_secrets_stay_out_of_messages_and_files(server, prompt, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(ConfigError, match=r"would be stored in config\.toml") as caught:
        make_config({"api": {"api_url": "https://user:pass@host/v1"}})
    assert "pass@" not in str(caught.value)
    assert safe_url("https://user:pass@host:8000/v1?key=sk-secret") == "https://host:8000/v1"
    seen = []

    async def watch(request):
        seen.append(request.headers.get("authorization"))

    server.faults = watch
    dataset, splits = corpus()
    remote = teacher(server, prompt)
    remote.fit(dataset, splits)
    assert seen[-1] == "Bearer sk-secret"
    files = b"".join(path.read_bytes() for path in cache.root().rglob("*") if path.is_file())
    assert b"sk-secret" not in files and "sk-secret" not in str(remote.describe().model_dump())

    async def quotes(request):
        seen.append(request.headers.get("authorization"))
        return JSONResponse({"error": {"message": f"no access with {seen[-1]}, sk-secret or p%40ss or p@ss"}}, 400)

    from starlette.responses import JSONResponse

    server.faults = quotes
    with pytest.raises(ModelError) as caught:
        teacher(server, prompt).fit(dataset, splits)
    assert "sk-secret" not in str(caught.value)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://user:p%40ss@lm/v1")
    with pytest.raises(ModelError) as caught:
        teacher(server, prompt, api_url=()).fit(dataset, splits)
    assert seen[-1] == "Basic dXNlcjpwQHNz" and "ss@" not in str(caught.value) and "p@ss" not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-\nsecret")
    with pytest.raises(ModelError, match="OPENAI_API_KEY contains characters") as caught:
        teacher(server, prompt).fit(dataset, splits)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://lm/v1", "http:///v1", "http://lm:port/v1"])
def test_a_malformed_url_is_one_sentence(server, prompt, url):
    with pytest.raises((ModelError, ConfigError), match="http://HOST:PORT/v1"):
        teacher(server, prompt, api_url=(url,))


def test_an_absent_server_is_one_sentence_at_once(prompt):
    dataset, splits = corpus()
    settings = ApiSpec(api_url=("http://127.0.0.1:9/v1",))
    absent = ApiTeacher("tiny", PromptSpec(prompt=(prompt,)), settings)
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1:9/v1 did not answer after 2 attempts: ConnectError"):
        absent.fit(dataset, splits)


def test_an_endless_stream_ends():
    class Endless(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request):
            async def drip():
                while True:
                    await asyncio.sleep(0.01)
                    yield b" "

            return httpx.Response(200, content=drip())

    endpoint = Endpoint("http://lm/v1", ApiSpec(api_timeout=1.0), Endless())
    with pytest.raises(ServiceError, match="no complete answer within"):
        asyncio.run(endpoint.post("completions", {}))


@pytest.fixture
def url(server):
    """The server on a loopback port."""
    with listening(server) as url:
        yield url


def test_teach_continues_after_a_kill_and_pays_no_answer_twice(server, url, prompt, tmp_path, monkeypatch):
    import os

    import pandas as pd

    from tests.processes import qkd, signalled

    dataset, _ = corpus(40)
    pd.DataFrame({"text": dataset.texts, "label": dataset.labels}).to_csv(tmp_path / "data.csv", index=False)
    words = [
        "teach",
        "--data",
        str(tmp_path / "data.csv"),
        "--teacher",
        "api:tiny",
        "--api-url",
        url,
        "--prompt",
        prompt,
    ]
    words += ["--api-source", "next-token", "--api-concurrency", "2", "--out"]
    estimate = qkd(*words, str(tmp_path / "no.parquet"), "--dry-run", check=True).stdout
    assert "40 texts" in estimate and not server.requests
    qkd(*words, str(tmp_path / "whole.parquet"), check=True)
    whole = len(server.requests)
    monkeypatch.setenv("QKD_CACHE", str(tmp_path / "other"))
    for times in (3, 17):
        signalled(
            *words,
            str(tmp_path / "part.parquet"),
            after="os:write",
            times=times,
            env=dict(os.environ),
        )
    server.requests.clear()
    qkd(*words, str(tmp_path / "part.parquet"), check=True)
    assert len(server.requests) <= whole - 20
    one, other = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("whole", "part"))
    pd.testing.assert_frame_equal(one, other)


def test_labels_that_share_a_word_are_refused(server, tmp_path):
    dataset, splits = corpus()
    with pytest.raises(ModelError, match="share the word 'cat'"):
        teacher(server, write_prompt(tmp_path, physics='["cat"]')).fit(dataset, splits)


def test_deferred_texts_are_asked_of_the_server_of_the_run(server, url, prompt, tmp_path):

    import pandas as pd

    from tests.processes import qkd

    dataset, _ = corpus(60)
    pd.DataFrame({"text": dataset.texts, "label": dataset.labels}).to_csv(tmp_path / "data.csv", index=False)
    given = {"data": tmp_path / "data.csv", "teacher": "api:tiny", "api-url": url, "prompt": prompt}
    given |= {
        "api-source": "next-token",
        "calibrate": "none",
        "encoder": "hashing:32",
        "qubits": 3,
        "epochs": 1,
        "runs": tmp_path,
    }
    qkd("distill", *(f"--{name}={value}" for name, value in given.items()), "--name=r", "--no-diagnose", check=True)
    server.requests.clear()
    new = "a cat that nobody has seen"
    words = ["predict", new, "--run", str(tmp_path / "r"), "--defer", "0.001", "--ask-teacher", "--json"]
    (row,) = map(json.loads, qkd(*words, check=True).stdout.splitlines())
    assert row["deferred"] and row["answered_by"] == "teacher"
    assert any(new in json.dumps(body) for _, body in server.requests)
    direct = teacher(server, prompt, api_source="next-token")
    direct.fit(dataset, split_dataset(dataset, 0.15, 0.2, 0))
    assert row["label"] == dataset.classes[int(direct.predict_logits([new]).argmax())]


def test_a_run_records_source_server_and_cost_and_no_secret(server, url, prompt, tmp_path, monkeypatch, capfd):
    from starlette.responses import PlainTextResponse

    from qkd import distill

    path, secrets = Path(prompt), (b"sk-4711", b"hunter22", b"dXNlcjpodW50ZXIyMg", b"confidential", b"user:")
    path.write_text(path.read_text().replace(TEMPLATE, f"confidential {TEMPLATE}"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-4711")
    monkeypatch.setenv("OPENAI_BASE_URL", url.replace("http://", "http://user:hunter22@"))
    dataset, _ = corpus(60)
    options = dict(data=(dataset.texts, dataset.labels), teacher="api:tiny", prompt=prompt, price="1,1")
    small = dict(encoder="hashing:16", qubits=2, epochs=2, diagnose=False, controls=False, runs=str(tmp_path / "runs"))
    run = distill(**options, **small, max_cost=1.0)
    assert run.config.api.api_source == "likelihoods"
    used = run.metrics.teacher.endpoint
    assert (used.source, used.model, used.fingerprint) == ("likelihoods", "tiny", "fp-1")
    assert used.dollars == pytest.approx((used.prompt_tokens + used.completion_tokens) / 1e6, abs=1e-6)
    page = run.report.read_text()
    assert f"{used.prompt_tokens:,} tokens read" in page and "tiny fp-1" in page
    before = len(server.requests)
    distill(resume=True, name=run.name, runs=str(tmp_path / "runs"), epochs=3)
    assert len(server.requests) - before < 20  # the test of one source, and no text

    async def quotes(request):
        return PlainTextResponse(f"{request.headers['authorization']} {await request.body()}", 400)

    server.faults = quotes
    with pytest.raises(ModelError, match="the reason quotes the request") as caught:
        distill(**options, **small, max_cost=1.0, name="other")
    printed = "".join(capfd.readouterr()).encode() + str(caught.value).encode()
    files = [path for folder in (tmp_path / "runs", cache.root()) for path in folder.rglob("*") if path.is_file()]
    written = printed + b"".join(path.read_bytes() for path in files)
    assert len(files) > 10 and not [secret for secret in secrets if secret in written]
