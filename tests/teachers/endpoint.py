"""An OpenAI-compatible HTTP server in front of a causal LM, with the deviations of real servers on demand.

Deviations, each as its server's tracker describes it: ``no_echo`` (ggml-org/llama.cpp#27174), ``stale``
(vllm-project/vllm#42019), ``markers`` (vllm-project/vllm#16838), ``collide`` (vllm-project/vllm#44319,
sgl-project/sglang#32290), ``no_logprobs`` (ollama/ollama#16117, #13638, ggml-org/llama.cpp#11346), ``one_sample``
(abetlen/llama-cpp-python#1906), ``old_limit`` (abetlen/llama-cpp-python#1907) and ``new_limit`` (openai's newer
models), ``cuts`` (ollama/ollama#8099, #17889), ``schema_ignored`` (ggml-org/llama.cpp#24097), ``sampled``
(ggml-org/llama.cpp#7197), ``thinks`` (sgl-project/sglang#28456), ``spent`` (sipeed/picoclaw#966), ``shuffled`` and
``swapped`` (InternLM/lmdeploy#2395), ``any_model`` (ggml-org/llama.cpp#10056), ``no_usage`` (sgl-project/sglang#18132),
``offsets`` (xorbitsai/inference#5245), ``bytes`` (offsets count bytes), ``zeros`` (every log-probability is 0.0),
``nulls``, ``jitter`` (values change with every request), ``one_prompt`` (llama-cpp-python 0.3.36 fails with HTTP 500 on
several prompts), ``no_completions`` and ``no_schema`` (chat-only servers), ``score`` (vLLM's ``logprob_token_ids``),
``vllm`` (its ``/tokenize`` of messages, and no chat without a template), ``ignores_messages`` (llama.cpp's
``/tokenize``), ``sglang`` (its ``/v1/score``), ``empty`` (content is null), ``prompt_wrong`` (llama-cpp-python 0.3.36
returns wrong log-probabilities of a prompt), ``lists_all`` (llama.cpp lists any number of tokens, while vLLM and OpenAI
refuse more than 20).
"""

import asyncio
import json
import random
import threading
import time
from contextlib import contextmanager

import httpx
import torch
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from qkd.core.teacher_config import ApiSpec, PromptSpec
from qkd.data.dataset import Dataset, split_dataset
from qkd.teachers.api.teacher import ApiTeacher
from tests.models.conftest import SENTENCES

TEMPLATE = "{text} the"
CONTEXT = 200  # tokens that a server with the deviation ``cuts`` reads of a prompt


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing else can run; no test waits for a real clock."""

    now = 0.0  # of all loops, as of a real clock

    def __init__(self):
        super().__init__()
        select = self._selector.select

        def jump(timeout):
            if timeout is None:
                return select(None)
            events = select(0)
            if not events:
                VirtualLoop.now += timeout
            return events

        self._selector.select = jump

    def time(self):
        return VirtualLoop.now


def write_prompt(folder, *, animals='["cat"]', physics='["qubit"]', chat="false"):
    """A prompt whose labels are by default single tokens of the tiny model."""
    path = folder / "prompt.toml"
    path.write_text(
        f'template = "{TEMPLATE}"\nchat = {chat}\n[verbalizers]\nanimals = {animals}\nphysics = {physics}\n'
    )
    return str(path)


def corpus(count=60):
    texts = [f"{SENTENCES[number % 4]} {' the' * (number // 4 + 1)}" for number in range(count)]
    labels = ["animals" if number % 4 < 2 else "physics" for number in range(count)]
    dataset = Dataset(tuple(texts), tuple(labels))
    return dataset, split_dataset(dataset, 0.2, 0.2, 0)


def teacher(server, prompt, transport=None, **api):
    """A teacher that asks ``server`` in this process."""
    settings = {"api_url": ("http://lm/v1",), "api_concurrency": 4, **api}
    spec = PromptSpec(prompt=(prompt,), calibrate="none")
    return ApiTeacher(server.name, spec, ApiSpec(**settings), transport or httpx.ASGITransport(server.app))


class Server:
    """The server; ``app`` is its ASGI application.

    Attributes:
        deviations: Names of deviations that are on.
        faults: Called before each request; a response that it returns replaces the answer.
        requests: Paths and bodies of answered requests.
    """

    def __init__(self, network, tokenizer, name="tiny", *deviations):
        self.network, self.tokenizer, self.name = network, tokenizer, name
        self.deviations, self.faults, self.requests, self.fingerprint = set(deviations), None, [], "fp-1"
        routes = {"completions": self.completions, "chat/completions": self.chat, "score": self.score}
        self.app = Starlette(
            routes=[
                *(
                    Route(f"/v1/{path}", self.handled(path, answer), methods=["POST"])
                    for path, answer in routes.items()
                ),
                Route("/tokenize", self.handled("/tokenize", self.tokenize), methods=["POST"]),
                Route("/detokenize", self.handled("/detokenize", self.detokenize), methods=["POST"]),
                Route("/v1/models", self.models),
            ]
        )
        self._stale, self.unlimited = None, 0

    def handled(self, path, answer):
        async def endpoint(request):
            if self.faults and (response := await self.faults(request)):
                return response
            body = json.loads(await request.body())
            if body.get("model", self.name) != self.name and "any_model" not in self.deviations:
                return JSONResponse({"error": {"message": f"no model {body['model']}"}}, 404)
            if "one_prompt" in self.deviations and isinstance(body.get("prompt"), list):
                return JSONResponse({"error": {"message": "", "type": "internal_server_error"}}, 500)
            try:
                made = answer(body)
            except KeyError as error:
                return JSONResponse({"error": {"message": f"unsupported: {error}"}}, 400)
            self.requests.append((path, body))
            read = len(self.ids(json.dumps(body.get("messages", body.get("prompt", body.get("query", ""))))))
            read = min(read, CONTEXT) if "cuts" in self.deviations else read
            usage = {"prompt_tokens": read, "completion_tokens": 1}
            usage = {} if "no_usage" in self.deviations else {"usage": usage}
            return JSONResponse({"model": self.name, "system_fingerprint": self.fingerprint, **usage, **made})

        return endpoint

    async def models(self, _):
        return JSONResponse({"data": [{"id": self.name}]})

    def ids(self, text, special=True):
        return self.tokenizer(text, add_special_tokens=special)["input_ids"]

    @torch.inference_mode()
    def logprobs(self, ids):
        return self.network(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(dim=1)

    def tokens(self, text, special=True):
        """Ids, texts and offsets of a text's tokens."""
        ids = self.ids(text, special)
        encoding = self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
        ends = [end for _, end in encoding["offset_mapping"]]
        starts = [0, *ends[:-1]]  # a blank belongs to the token behind it, as in byte-pair encodings
        return ids, [text[a:b] for a, b in zip(starts, ends, strict=True)], starts

    def completions(self, body):
        if "no_completions" in self.deviations:
            raise KeyError("completions")
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        choices = [self.completion(body, prompt, index) for index, prompt in enumerate(prompts)]
        if "swapped" in self.deviations:
            choices = [{**choice, "index": index} for index, choice in enumerate(choices[::-1])]
        return {"choices": choices[::-1] if "shuffled" in self.deviations else choices}

    def completion(self, body, prompt, index):
        self.check_top(body.get("logprobs"))
        ids, texts, offsets = self.tokens(prompt, body.get("add_special_tokens", True))
        if "cuts" in self.deviations:
            ids, texts, offsets = ids[-CONTEXT:], texts[-CONTEXT:], offsets[-CONTEXT:]
        table = self.logprobs(ids)
        following = int(table[-1].argmax())
        choice = {
            "index": index,
            "text": self.text_of(following),
            "finish_reason": "length",
            "logprobs": None,
        }
        values = [None, *table[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()]
        if "stale" in self.deviations:
            self._stale = self._stale or values
            values = (self._stale + [self._stale[-1]] * len(values))[: len(values)]
        values = self.changed(values)
        if body.get("logprobs") is not None and "no_logprobs" not in self.deviations:
            if (wanted := body.get("logprob_token_ids")) and "score" in self.deviations:
                top = {self.text_of(token): float(table[-1, token]) for token in wanted}
            else:
                top = {self.text_of(token): value for token, value in self.best(table[-1], body["logprobs"])}
            if "collide" in self.deviations:  # a later token replaces an earlier one of the same text
                top = {token.strip(): value for token, value in top.items()}
            echoed = body.get("echo") and "no_echo" not in self.deviations
            choice["logprobs"] = {
                "tokens": [*(texts if echoed else []), self.text_of(following)],
                "token_logprobs": [*(values if echoed else []), float(table[-1, following])],
                "text_offset": self.offsets(prompt, [*(offsets if echoed else []), len(prompt) if echoed else 0]),
                "top_logprobs": [top],
            }
        if "markers" in self.deviations:
            texts = [text.replace(" ", "Ġ") for text in texts]
        if "prompt_logprobs" in body and "prompt_logprobs" in self.deviations:
            choice["prompt_logprobs"] = [
                None,
                *(
                    {str(token): {"logprob": value, "decoded_token": text}}
                    for token, value, text in list(zip(ids, values, texts, strict=True))[1:]
                ),
            ]
        return choice

    def best(self, row, count):
        """The most probable tokens and their log-probabilities, at temperature 0 those after sampling if so set."""
        best = row.topk(min(count, len(row)))
        values = best.values.tolist()
        if "sampled" in self.deviations:
            values = [0.0, *[-3.4e38] * (len(values) - 1)]
        return list(zip(best.indices.tolist(), values, strict=True))

    def offsets(self, prompt, characters):
        if "offsets" in self.deviations:
            characters = [place - characters[0] + 7 for place in characters]
        counted = [len(prompt[:place].encode()) for place in characters]
        return counted if "bytes" in self.deviations else characters

    def changed(self, values):
        """Log-probabilities as a server with deviations returns them."""
        if "zeros" in self.deviations:
            return [0.0] * len(values)
        if "prompt_wrong" in self.deviations:
            return [value and value - 5 for value in values]
        if "nulls" in self.deviations:
            return [None] * len(values)
        if "jitter" in self.deviations:
            return [value and value + random.gauss(0, 0.1) for value in values]
        return values

    def text_of(self, token):
        """The text of a token behind another word."""
        return self.tokenizer.decode([token]) if not self.words else f" {self.tokenizer.decode([token])}"

    @property
    def words(self):
        """True if the tokenizer splits at blanks and drops them."""
        return self.tokenizer.decode([self.ids("a")[-1]]) == self.tokenizer.decode([self.ids(" a")[-1]])

    def check_top(self, count):
        if (count or 0) > 20 and "lists_all" not in self.deviations:
            raise KeyError(f"{count} logprobs")

    def rendered(self, body):
        if self.tokenizer.chat_template:
            return self.tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, tokenize=False)
        return "\n".join(turn["content"] for turn in body["messages"])

    def chat(self, body):
        if "vllm" in self.deviations and not self.tokenizer.chat_template:
            raise KeyError("chat without a template")
        self.check_top(body.get("top_logprobs"))
        limits = {"old_limit": "max_completion_tokens", "new_limit": "max_tokens"}
        for deviation, name in limits.items():
            if deviation in self.deviations and name in body:
                if deviation == "new_limit":
                    raise KeyError(name)
                self.unlimited += 1
        prompt = self.rendered(body)
        table = self.logprobs(self.ids(prompt))[-1]
        if "response_format" in body:
            if "no_schema" in self.deviations:
                raise KeyError("response_format")
            labels = body["response_format"]["json_schema"]["schema"]["properties"]["label"]["enum"]
            p = torch.stack([table[self.ids(f" {label}")[-1]] for label in labels]).softmax(dim=0)
            drawn = torch.multinomial(p, body.get("n", 1), replacement=True).tolist()
            texts = [json.dumps({"label": labels[number]}) for number in drawn]
            if "schema_ignored" in self.deviations:
                texts = [f"The label that fits best is {labels[number]}." for number in drawn]
        else:
            texts = [self.tokenizer.decode([int(table.argmax())])] * body.get("n", 1)
        if "thinks" in self.deviations:
            texts = [f"<think>It could be a cat or a qubit.</think>{text}" for text in texts]
        if "empty" in self.deviations:
            texts = [None] * len(texts)
        if "one_sample" in self.deviations:
            texts = texts[:1]
        if "spent" in self.deviations:
            texts = [None] * len(texts)
        end = "length" if "spent" in self.deviations else "stop"
        messages = [{"role": "assistant", "content": text} for text in texts]
        choices = [{"index": i, "message": message, "finish_reason": end} for i, message in enumerate(messages)]
        if body.get("logprobs") and "no_logprobs" not in self.deviations:
            pairs = self.best(table, body.get("top_logprobs", 5))
            top = [{"token": self.tokenizer.decode([token]), "logprob": value} for token, value in pairs]
            if "thinks" in self.deviations:
                top = [{"token": "<think>", "logprob": -0.01}, {"token": "\n", "logprob": -5.0}]
            choices[0]["logprobs"] = {"content": [{"token": texts[0], "logprob": 0.0, "top_logprobs": top}]}
        return {"choices": choices}

    def tokenize(self, body):
        if not {"score", "sglang", "vllm"} & self.deviations:
            raise KeyError("tokenize")
        if "messages" in body:
            if "ignores_messages" in self.deviations:
                return {"tokens": []}
            if "vllm" not in self.deviations or not self.tokenizer.chat_template:
                raise KeyError("messages")
            return {"tokens": self.ids(self.rendered(body), special=False)}
        return {"tokens": self.ids(body["prompt"], body["add_special_tokens"])}

    def detokenize(self, body):
        return {"prompt": self.tokenizer.decode(body["tokens"])}

    def score(self, body):
        if "sglang" not in self.deviations:
            raise KeyError("score")
        rows = []
        for item in body["items"]:
            table = self.logprobs(self.ids(body["query"] + item))[-1]
            rows.append(table[torch.tensor(body["label_token_ids"])].softmax(dim=0).tolist())
        return {"scores": rows}


@contextmanager
def listening(server):
    """Serve on a loopback port, and yield the URL."""
    running = uvicorn.Server(uvicorn.Config(server.app, port=0, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}/v1"
    finally:
        running.should_exit = True
        thread.join()


def random_faults(seed, share=0.3):
    """Return faults of all kinds, drawn by ``seed``: 429 with and without Retry-After, 5xx, HTML, resets."""
    drawn = random.Random(seed)

    async def fault(request):
        if drawn.random() >= share:
            return None
        kind = drawn.choice(["429", "429 after", "500", "503", "reset", "slow"])
        if kind == "reset":
            raise ConnectionResetError
        if kind == "slow":
            await asyncio.sleep(0)
            return None
        status = int(kind[:3])
        headers = {"retry-after": "2"} if "after" in kind else {}
        return PlainTextResponse("try again later", status, headers)

    return fault
