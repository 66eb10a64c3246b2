"""Students with random parameters on hashing and static encoders; nothing is downloaded or trained."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from qkd.circuits import library
from qkd.core.config import EngineSpec
from qkd.encoders.registry import make_encoder
from qkd.encoders.static import StaticEncoder
from qkd.simulation.factory import make_engine
from qkd.student.bundle import Student
from qkd.student.cores import QuantumCore
from qkd.student.model import StudentModel

CLASSES = ('say "hi" & <b>go</b>', "l'été 🎉", "plain")
CPU = EngineSpec(precision="double", torch_device="cpu")


def wordpiece_table(dim=16, seed=5):
    """The arrays of a static encoder with a small BERT vocabulary."""
    letters = [chr(c) for c in range(33, 127)] + list("éßΣσςπ量子")
    words = ["the", "quantum", "circuit", "test", "##ing", "##s", "text", "don", "it", "free", "un", "##code", "naive"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words, *letters, *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz0")]
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    table = np.random.default_rng(seed).normal(size=(len(vocabulary), dim)).astype(np.float16)
    return {"table": table, "tokenizer": np.frombuffer(tokenizer.to_str().encode(), np.uint8)}


def make_student(encoder, circuit=None, core=None, seed=0, noise=None):
    """A student with random parameters whose labels need escaping."""
    circuit = circuit or library.load_circuit("hardware", qubits=4, layers=2)
    torch.manual_seed(seed)
    model = StudentModel(
        core or QuantumCore(circuit, make_engine(CPU, circuit, noise)), encoder.dim, CLASSES, fresh=False
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return Student(model.double(), encoder)


@pytest.fixture(scope="session")
def hashing_student():
    return make_student(make_encoder("hashing:64"))


@pytest.fixture(scope="session")
def static_student():
    return make_student(StaticEncoder("static:tiny", 8, wordpiece_table()))


@pytest.fixture(scope="session")
def some_texts():
    """Real sentences of the README."""
    readme = Path(__file__).parents[2] / "README.md"
    return [text for text in re.split(r"(?<=[.!?:|])\s+", readme.read_text("utf-8")) if len(text) > 30][:60]


def read(path):
    """The JSON value of a file."""
    return json.loads(path.read_text("utf-8"))
