"""Random models of several families against transformers, one text at a time; broken folders are refused."""

import pytest

from tests.models.conftest import FAULTS, check_family

WHOLE = [
    ("bert", "encoder", None, None, "float32"),
    ("roberta", "encoder", "<pad>", None, "float16"),
    ("mpnet", "encoder", None, None, "float32"),
    ("gpt2", "encoder", None, 0, "bfloat16"),
    ("llama", "encoder", "<pad>", None, "float32"),
    ("distilbert", "classifier", None, None, "float32"),
    ("roberta", "classifier", None, None, "float32"),
    ("xlnet", "classifier", None, None, "float32"),  # its head reads the last position, whatever the mask says
    ("gpt2", "classifier", None, None, "float32"),
    ("gpt2", "classifier", None, 0, "float32"),
    ("gpt2", "classifier", "<pad>", 296, "float16"),
    ("llama", "classifier", None, 296, "float32"),
    ("llama", "classifier", "<pad>", None, "float32"),
    ("qwen2", "lm", None, None, "float32"),
    ("gpt2", "lm", "!", 0, "float32"),
]


@pytest.mark.parametrize(("family", "kind", "pad", "config_pad", "dtype"), WHOLE)
def test_numbers_are_those_of_transformers_one_text_at_a_time(tmp_path, family, kind, pad, config_pad, dtype):
    assert check_family(tmp_path / "model", family, kind, pad=pad, config_pad=config_pad, dtype=dtype)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("family", "kind"), [("bert", "classifier"), ("llama", "lm"), ("gpt2", "encoder")])
def test_folders_with_a_fault_are_refused(tmp_path, family, kind, fault):
    if (kind, fault) == ("encoder", "headless"):
        pytest.skip("an encoder has no head")
    assert not check_family(tmp_path / "model", family, kind, fault=fault)
