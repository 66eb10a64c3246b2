"""Fine-tuning of a random LM learns, resumes after a kill, and saves an ordinary adapter."""

import shutil

import numpy as np
import pytest
import torch

from qkd.core import cache
from qkd.core.config import make_config
from qkd.core.errors import QkdError
from qkd.data import loading as data
from qkd.teachers.finetune import FineTuning
from qkd.teachers.registry import make_teacher
from tests.models.conftest import animals


def teacher_of(model, **more):
    spec = {"epochs": 3, "lr": 0.01, "batch_size": 8, "depth": 1, "tuned": 0.5, **more}
    spec = {f"lora_{key}": value for key, value in spec.items()}
    return make_teacher(f"lora:{model}", config=make_config({"lora": spec}))


def fitted(model, dataset, **more):
    teacher = teacher_of(model, **more)
    teacher.fit(dataset, data.split_dataset(dataset))
    return teacher


def test_it_learns_and_what_it_says_is_cached(model, monkeypatch, tmp_path):
    dataset = animals(3)
    splits = data.split_dataset(dataset)
    first = fitted(model, dataset)
    logits = first.logits(dataset.texts)
    assert logits.shape == (len(dataset.texts), 3) and logits.dtype == np.float32
    assert (logits.argmax(axis=1) == dataset.targets)[splits.test].mean() > 0.6
    facts = first.describe()
    losses = [row["valid_loss"] for row in facts.history]
    assert min(losses) < losses[0] and facts.best_epoch == int(np.argmin(losses))
    assert facts.layers == [2, 2] and 0 < facts.trained < first.num_parameters
    monkeypatch.setattr(FineTuning, "run", lambda *_: pytest.fail("it was fine-tuned again"))
    monkeypatch.setattr(
        "qkd.teachers.classifier.Classifier.scores", lambda *_: pytest.fail("the model was called again")
    )
    np.testing.assert_array_equal(fitted(model, dataset).logits(dataset.texts[::-1]), logits[::-1])


def test_what_is_saved_is_an_adapter_that_classifier_and_peft_read(model, tmp_path):
    from peft import PeftModel
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    dataset = animals(3)
    teacher = fitted(model, dataset, epochs=1, depth=0.5)
    teacher.save(tmp_path / "run" / "teacher")
    teacher.save(tmp_path / "run" / "teacher")
    folder = tmp_path / "run" / "teacher"
    other = make_teacher(f"classifier:{folder}")
    other.fit(dataset, data.split_dataset(dataset))
    expected = teacher.logits(dataset.texts) * teacher.describe().temperature
    np.testing.assert_allclose(other.logits(dataset.texts), expected, atol=1e-4)
    base = AutoModelForSequenceClassification.from_pretrained(model, config=AutoConfig.from_pretrained(folder))
    assert base.config.num_hidden_layers == 1  # the half that was kept
    network = PeftModel.from_pretrained(base, folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(dataset.texts[4], return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        np.testing.assert_allclose(network(input_ids=ids).logits[0].numpy(), expected[4], atol=1e-4)


def test_fine_tuning_that_was_killed_ends_with_the_same_weights(model, monkeypatch, tmp_path):
    dataset = animals(2)
    whole = fitted(model, dataset, patience=3).logits(dataset.texts)
    monkeypatch.setenv("QKD_CACHE", str(tmp_path / "another"))
    monkeypatch.setattr("qkd.teachers.finetune.SAVE_INTERVAL_SECONDS", 0.0)
    real, steps = FineTuning._step, []

    def dies(self, rows):
        steps.append(rows)
        if len(steps) == 11:
            raise KeyboardInterrupt
        return real(self, rows)

    monkeypatch.setattr(FineTuning, "_step", dies)
    with pytest.raises(KeyboardInterrupt):
        fitted(model, dataset, patience=3)
    np.testing.assert_array_equal(fitted(model, dataset, patience=3).logits(dataset.texts), whole)
    (state,) = (tmp_path / "another").glob("adapters/*/qkd.json")
    assert not list(state.parent.glob("state-*"))  # done, nothing is left of the checkpoint
    assert steps[11] == steps[10]  # the step that was lost came again, and none before it
    per_epoch = -(-len(data.split_dataset(dataset).train) // 8)
    assert len(steps) == 3 * per_epoch + 1


def test_memory_that_runs_out_only_makes_smaller_parts(model, monkeypatch, capsys):
    dataset = animals(2, count=40)
    expected = fitted(model, dataset, epochs=1).logits(dataset.texts)
    shutil.rmtree(cache.root() / "adapters")
    real = FineTuning._forward

    def hungry(self, tokens):
        if torch.is_grad_enabled() and len(tokens) > 3:
            torch.empty(2**60)  # the allocator's own complaint
        return real(self, tokens)

    monkeypatch.setattr(FineTuning, "_forward", hungry)
    found = fitted(model, dataset, epochs=1).logits(dataset.texts)
    assert "out of memory in fine-tuning; continuing with 2 texts at once" in capsys.readouterr().err
    assert found.shape == expected.shape and np.isfinite(found).all()


def test_modules_that_do_not_exist_are_named(model):
    with pytest.raises(QkdError, match=r"no linear map 'q_prod'; did you mean 'q_proj'"):
        fitted(model, animals(2), targets="q_prod")


def test_half_precision_learns_too(model):
    dataset = animals(2)
    teacher = make_teacher(
        f"lora:{model}",
        config=make_config(
            {"lora": {"lora_epochs": 2, "lora_lr": 0.01, "lora_depth": 1}, "teacher": {"dtype": "bfloat16"}}
        ),
    )
    teacher.fit(dataset, data.split_dataset(dataset))
    logits = teacher.logits(dataset.texts)
    assert (logits.argmax(axis=1) == dataset.targets).mean() > 0.6
