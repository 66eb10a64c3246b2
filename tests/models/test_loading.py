"""Loading of weights and batching: GGUF files, the hub's cache without a hub, memory that runs out."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from qkd.core.config import Config
from qkd.core.errors import QkdError
from qkd.encoders.registry import make_encoder
from qkd.models import weights
from qkd.models.backbone import Backbone
from qkd.models.batching import TokenBudget
from qkd.pipeline.settings import settled
from qkd.teachers.registry import make_teacher
from tests.models.conftest import SENTENCES, TEXTS, save_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, model, monkeypatch):
    """A hub cache with one model, as the hub's own client leaves it, and no way to the hub."""
    from huggingface_hub import constants

    folder = tmp_path / "hub" / "models--somebody--tiny"
    shutil.copytree(model, folder / "snapshots" / COMMIT)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_cached_hub_model_works_offline_and_is_pinned_to_its_commit(hub, model):
    assert weights.stored_name("somebody/tiny") == f"somebody/tiny@{COMMIT}"
    assert weights.weights_fingerprint(weights.resolve("somebody/tiny")) == weights.weights_fingerprint(
        weights.resolve(f"somebody/tiny@{COMMIT}")
    )


def test_a_missing_hub_model_is_named_offline_before_anything_heavy_is_imported(hub, tmp_path):
    script = (
        "import sys\n"
        "from qkd import QkdError, api\n"
        "try:\n"
        "    api.distill(teacher='probe:nobody/nothing', offline=True, runs=sys.argv[1])\n"
        "except QkdError as error:\n"
        "    print(error)\n"
        "assert not {'torch', 'transformers', 'qiskit'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "runs")], capture_output=True, text=True, check=True
    )
    assert "model 'nobody/nothing' cannot be loaded (it is not in the hub's cache" in done.stdout
    assert "hf download nobody/nothing" in done.stdout


def test_a_run_writes_the_commit_into_its_configuration(hub, model):
    from qkd.core.config import make_config
    from qkd.pipeline.settings import with_pinned_models

    asked = make_config(
        {"teacher": {"teacher": "probe:somebody/tiny"}, "encoder": {"encoder": "somebody/tiny?layer=1+hashing:8"}}
    )
    config = with_pinned_models(asked)
    assert config.teacher.teacher == f"probe:somebody/tiny@{COMMIT}"
    assert config.encoder.encoder == f"somebody/tiny@{COMMIT}?layer=1+hashing:8"
    assert with_pinned_models(make_config({})) == make_config({})


def test_memory_that_runs_out_halves_the_batch_and_changes_no_number(model, monkeypatch, capsys):
    expected = make_encoder(str(model)).encode(TEXTS)
    encoder = make_encoder(str(model))
    sizes = []

    def hungry(module, arguments, options):
        sizes.append(len(options["input_ids"]))
        if sizes[-1] > 3:
            torch.empty(2**60)  # the allocator's own complaint

    encoder._backbone.network.register_forward_pre_hook(hungry, with_kwargs=True)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=2e-6)
    assert max(sizes[-3:]) <= 6 and "out of memory with" in capsys.readouterr().err


def test_memory_that_does_not_hold_one_text_is_one_sentence():
    def step(rows):
        raise MemoryError

    with pytest.raises(QkdError, match=r"a model: memory does not hold one text of 7 tokens"):
        list(TokenBudget(64, "a model").run([5, 7, 6], step))


def test_other_errors_are_not_taken_for_memory(model):
    def step(rows):
        raise RuntimeError("something else")

    with pytest.raises(QkdError, match=r"a model: the model fails on texts of up to 7 tokens \(something else\)"):
        list(TokenBudget(64, "a model").run([5, 7, 6], step))


def save_gguf(path, folder):
    """Write the tiny Llama as a GGUF file, with gguf's own writer and a byte-pair tokenizer of single characters."""
    import gguf
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(folder)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    letters = [*(chr(97 + n) for n in range(config.vocab_size - 1)), "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(letters)
    writer.add_token_types([1] * len(letters))
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in network.state_dict().items():
        value = weight.numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # GGUF keeps the halves of each head interleaved
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            value = value.reshape(heads, 2, -1, value.shape[1]).swapaxes(1, 2).reshape(value.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_unpacked_once_and_gives_the_same_states(tmp_path, capsys):
    folder = save_model(tmp_path / "tiny")
    save_gguf(tmp_path / "tiny.gguf", folder)
    packed, plain = Backbone(str(tmp_path / "tiny.gguf")), Backbone(str(folder))
    ids = [[3, 4, 5, 6], [7, 8]]
    np.testing.assert_allclose(packed.pooled_tokens(ids, [1, 2]), plain.pooled_tokens(ids, [1, 2]), atol=1e-5)
    assert "unpacking" in capsys.readouterr().err
    (tmp_path / "folder").mkdir()
    shutil.copy(tmp_path / "tiny.gguf", tmp_path / "folder")
    assert Backbone(str(tmp_path / "folder")).fingerprint == packed.fingerprint
    assert "unpacking" not in capsys.readouterr().err
    converted = Path(packed.source.path)
    (left := converted.parent / f".{converted.name}-killed.part").mkdir()
    assert weights.resolve(str(tmp_path / "tiny.gguf")) == packed.source and not left.exists()
    tokenizer = (converted / "tokenizer.json").read_bytes()
    (converted / "tokenizer.json").write_bytes(tokenizer[:-1] + b" ")
    with pytest.raises(QkdError, match=r"tokenizer\.json was changed .* remove this folder and run again"):
        weights.resolve(str(tmp_path / "tiny.gguf"))
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(40))
    with pytest.raises(QkdError, match=r"broken\.gguf: cannot be read as a GGUF model"):
        Backbone(str(tmp_path / "broken.gguf"))


def test_folders_that_hold_no_model(tmp_path):
    (tmp_path / "two").mkdir()
    for name in "ab":
        (tmp_path / "two" / f"{name}.gguf").write_bytes(b"GGUF")
    with pytest.raises(QkdError, match=r"two: this folder has no config\.json but 2 GGUF files; name one of them"):
        weights.resolve(str(tmp_path / "two"))
    with pytest.raises(QkdError, match=r"this folder has no config\.json; give one that save_pretrained wrote"):
        weights.resolve(str(tmp_path))


def test_quantisation_without_its_library_says_how_to_get_it(model, monkeypatch):
    import importlib.util

    from qkd.models.transformer import Loading

    if importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is here")
    with pytest.raises(QkdError, match=r"quantize.*4bit.* needs bitsandbytes"):
        Backbone(str(model), Loading(quantize="4bit")).pooled(SENTENCES, [1])


def test_a_gguf_file_that_lacks_weights_is_refused_rather_than_filled_with_chance(tmp_path, monkeypatch):
    import gguf

    folder = save_model(tmp_path / "tiny")
    real = gguf.GGUFWriter.add_tensor
    lacking = "blk.1.ffn_up.weight"
    monkeypatch.setattr(
        gguf.GGUFWriter, "add_tensor", lambda self, name, value: None if name == lacking else real(self, name, value)
    )
    save_gguf(tmp_path / "tiny.gguf", folder)
    with pytest.raises(
        QkdError, match=r"tiny\.gguf: the file lacks 1 weights .* random \(model\.layers\.1\.mlp\.up_proj\.weight\)"
    ):
        Backbone(str(tmp_path / "tiny.gguf"))


@pytest.mark.parametrize("size", [0, 3, 4, 24, 100, 2000, -1])
def test_a_gguf_file_that_was_cut_is_one_sentence(tmp_path, model, size):
    save_gguf(tmp_path / "whole.gguf", model)
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes()[:size])
    with pytest.raises(QkdError, match=r"cut\.gguf: cannot be read as a GGUF model"):
        Backbone(str(tmp_path / "cut.gguf"))


def test_a_folder_is_stored_by_its_absolute_path(model, tmp_path, monkeypatch):
    shutil.copytree(model, tmp_path / "one" / "org" / "na+me")
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    name = "org/na+me?layers=1+static:org/na+me?dim=4+hashing:8"
    encoder, teacher = make_encoder(name), make_teacher("probe:org/na+me")
    folder = tmp_path / "one" / "org" / "na+me"
    assert encoder.name == f"{folder}?layers=1+static:{folder}?dim=4+hashing:8"
    assert teacher.name == f"probe:{folder}"
    config = settled(Config(), {"encoder": name, "teacher": "probe:org/na+me"})
    assert (config.encoder.encoder, config.teacher.teacher) == (encoder.name, teacher.name)
    monkeypatch.chdir(tmp_path / "two")
    np.testing.assert_array_equal(make_encoder(encoder.name).encode(TEXTS), encoder.encode(TEXTS))
    shutil.rmtree(folder)
    with pytest.raises(QkdError, match=r"there is no such folder on this machine"):
        make_encoder(encoder.name)


def test_a_bundle_fetches_no_encoder_unless_that_is_allowed(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert make_encoder(f"somebody/tiny@{COMMIT}", allow_download=False).encode(TEXTS).shape == (len(TEXTS), 32)
    with pytest.raises(QkdError, match=r"'another/tiny' is not in the hub's cache and may not be fetched here"):
        make_encoder("another/tiny", allow_download=False)


def test_an_encoder_decoder_model_is_no_encoder(tmp_path):
    from transformers import T5Config

    T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2).save_pretrained(tmp_path)
    with pytest.raises(QkdError, match=r"t5 is an encoder-decoder model, which qkd reads only as classifier:"):
        make_encoder(str(tmp_path)).encode(TEXTS)


def test_texts_that_the_tokenizer_does_not_know_are_refused(model):
    with pytest.raises(QkdError, match=r"300 of 300 tokens are unknown to its tokenizer"):
        make_encoder(str(model)).encode(["foreign words everywhere"] * 100)
