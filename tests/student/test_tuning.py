"""An encoder's last layers trained with the student: gradients, exact resume, and a bundle that answers the same."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qkd import QkdError, distill
from qkd.circuits import library
from qkd.core.config import Config, EngineSpec, make_config
from qkd.encoders.protocol import embed_texts
from qkd.encoders.registry import make_encoder
from qkd.encoders.trainable import TrainableLayers, make_trainable
from qkd.simulation.factory import make_engine
from qkd.student.bundle import Student
from qkd.student.cores import QuantumCore
from qkd.student.data import TrainingData
from qkd.student.trainer import WARMUP_EPOCHS, make_fine_tuner, make_trainer
from tests.models.conftest import TEXTS, save_model


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model"))


def parts(tiny, folder, layers="1,2", last=1, epochs=2, lr=0.003):
    """A trained student of a tiny transformer, its data, and a trainer that tunes."""
    encoder = make_encoder(f"{tiny}?layers={layers}")
    y = np.array([int("ball" in text or "thin" in text) for text in TEXTS])
    rows = np.arange(len(TEXTS))
    data = TrainingData(
        ("no", "yes"), embed_texts(encoder, TEXTS), np.eye(2)[y] * 3, y, rows[::2], rows[::2], rows[1::2]
    )
    config = make_config(
        {"train": {"epochs": 3}, "encoder": {"tune_epochs": epochs, "tune_lr": lr, "tune_patience": 9}}
    )
    circuit = library.load_circuit("hardware", qubits=2, layers=1)
    engine = make_engine(EngineSpec(torch_device="cpu"), circuit)
    trained = make_trainer(config, QuantumCore(circuit, engine), data, engine.device, None)
    trained.run()
    front = TrainableLayers(encoder, TEXTS, last)
    return trained, data, front, make_fine_tuner(config, trained.model, data, front, folder)


@pytest.mark.parametrize(("layers", "last"), [("2", 1), ("1,2", 1), ("1", 1), ("2", 2), ("0,1", 1)])
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_a_front_is_the_top_of_the_encoder_and_only_that_trains(tiny, layers, last, pooling):
    encoder = make_encoder(f"{tiny}?layers={layers}&pooling={pooling}")
    front = TrainableLayers(encoder, TEXTS, last)
    np.testing.assert_allclose(front.embeddings(batch=5), encoder.encode(TEXTS), atol=2e-6)
    front.train()
    front(torch.arange(4)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in front.parameters())
    assert len(front.blocks) == last and len(front.state_dict()) == len(dict(front.named_parameters()))


def test_a_gradient_goes_through_the_circuit_into_the_encoder(tiny):
    trained, _, front, _ = parts(tiny, None)
    student, rows = trained.model.eval(), torch.arange(3)
    front.eval()
    weight = front.blocks[0].mlp.down_proj.weight
    student(front(rows))[:, 0].sum().backward()
    place = tuple(int(i) for i in np.unravel_index(weight.grad.abs().argmax(), weight.shape))
    step, values = 1e-2, []
    for sign in (1, -1):
        with torch.no_grad():
            weight[place] += sign * step
            values.append(student(front(rows))[:, 0].sum().item())
            weight[place] -= sign * step
    assert weight.grad[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=0.02)


def test_a_tuned_encoder_travels_in_the_bundle(tiny, tmp_path):
    trained, _, front, tuner = parts(tiny, None, epochs=9, lr=0.0003)
    before = front.embeddings()
    tuner.run()
    assert tuner.progress.best_epoch > 0 and np.abs(front.embeddings() - before).max() > 1e-4
    encoder = front.tuned()
    np.testing.assert_allclose(encoder.encode(TEXTS), front.embeddings(), atol=2e-6)
    np.testing.assert_array_equal(embed_texts(encoder, TEXTS), encoder.encode(TEXTS))
    assert encoder.key != make_encoder(encoder.name).key
    Student(trained.model, encoder).save(tmp_path)
    again = Student.load(tmp_path)
    assert again.encoder.key == encoder.key
    np.testing.assert_allclose(again.logits(TEXTS), trained.model.logits(front.embeddings()), atol=1e-5)


def test_a_static_table_trains_for_the_tokens_that_occur_and_needs_no_torch_to_be_used(tiny):
    encoder = make_encoder(f"static:{tiny}?dim=8")
    front = make_trainable(encoder, [*TEXTS[:6], ""], 1)
    np.testing.assert_allclose(front.embeddings(), encoder.encode([*TEXTS[:6], ""]), atol=1e-3)
    front.train()
    front(torch.arange(6))[:, 0].sum().backward()
    assert front.table.grad.abs().sum(dim=1).gt(0).sum() > 5
    with torch.no_grad():
        front.table[:, 3] += 0.5
    tuned = front.tuned()
    np.testing.assert_allclose(tuned.encode(TEXTS[:6]), front.embeddings()[:6], atol=2e-3)
    assert tuned.key != encoder.key
    seen = sorted({token for ids in encoder.tokens(TEXTS[:6]) for token in ids} | {0})
    changed = np.flatnonzero(np.abs(tuned.arrays["table"] - encoder.arrays["table"]).max(axis=1))
    assert changed.tolist() == seen
    np.testing.assert_array_equal(make_encoder(encoder.name, arrays=tuned.arrays).encode(TEXTS), tuned.encode(TEXTS))


def test_tuning_never_ends_worse_than_it_began(tiny):
    *_, tuner = parts(tiny, None)
    loss = tuner.validate()["valid_loss"]
    tuner.optimizer.param_groups[-1]["lr"] = 3.0  # ruins the encoder in one step
    tuner.run()
    assert tuner.validate()["valid_loss"] == pytest.approx(loss, rel=1e-5) or tuner.progress.best_loss < loss


def test_k_epochs_and_resume_and_k_more_are_2k(tiny, tmp_path):
    *_, whole = parts(tiny, None, epochs=4)
    whole.run()
    *_, first = parts(tiny, tmp_path, epochs=2)
    first.run()
    *_, second = parts(tiny, tmp_path, epochs=4)
    torch.rand(7)
    assert second.resume()
    second.run()
    assert whole.progress.best_loss == second.progress.best_loss
    one, two = whole.learner.state_dict(), second.learner.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_every_text_trains_once_an_epoch_beside_texts_of_its_length(tiny):
    *_, tuner = parts(tiny, None)
    lengths = torch.tensor([3, 50, 4, 49, 5, 48, 6, 47] * 8)
    tuner.encoder_layers = SimpleNamespace(lengths=lengths)
    tuner.train_set = SimpleNamespace(inputs=torch.arange(64).flip(0))
    tuner.spec = tuner.spec.model_copy(update={"batch_size": 4})
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    batches = tuner._batches(order)
    assert torch.cat(batches).sort().values.tolist() == list(range(64)) and {len(batch) for batch in batches} == {4}
    own = [lengths.flip(0)[batch] for batch in batches]
    assert sum(int(part.max() - part.min()) for part in own) < 64  # drawn blindly, each batch spans about 40
    assert [int(part.max()) for part in own] != sorted(int(part.max()) for part in own)


def test_the_rate_rises_and_then_halves_every_epoch(tiny):
    """Adam's first step is the rate itself, whatever the gradient."""
    *_, front, tuner = parts(tiny, None, lr=0.5)
    before = [parameter.detach().clone() for parameter in front.parameters()]
    first, rates, step = [], [], tuner.optimizer.step

    def noting():
        step()
        first.append(max(float((p - b).abs().max()) for p, b in zip(front.parameters(), before, strict=True)))
        rates.append(tuner.optimizer.param_groups[-1]["lr"])

    tuner.optimizer.step = noting
    tuner.spec = tuner.spec.model_copy(update={"batch_size": 1})
    tuner._epoch()
    tuner._epoch()
    count = len(rates) // 2
    assert first[0] == pytest.approx(rates[0], rel=0.05) and rates[0] < 0.5 / WARMUP_EPOCHS / count
    assert rates[:count].index(max(rates)) == pytest.approx(WARMUP_EPOCHS * count, abs=1.5)
    assert rates[-1] / rates[count - 1] == pytest.approx(0.5)


def test_what_cannot_be_tuned_is_said(tiny):
    with pytest.raises(QkdError, match=r"tune_encoder: 'hashing:8' is neither a transformer nor static"):
        make_trainable(make_encoder("hashing:8"), TEXTS, 1)
    with pytest.raises(QkdError, match=r"tune_encoder 3: .* reads layer 2"):
        TrainableLayers(make_encoder(str(tiny)), TEXTS, 3)
    assert Config().encoder.tune_encoder == 0


@pytest.fixture
def table(tmp_path):
    """A table of the tiny model's words with a teacher's logits for it and for texts without labels."""
    rng = np.random.default_rng(6)
    words = sorted({word for text in TEXTS for word in text.split()})
    texts = [" ".join(rng.choice(words, size=7)) for _ in range(90)]
    labels = ["ball" if "ball" in text or "cat" in text else "none" for text in texts]
    rows = list(zip(texts, labels, strict=True))
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in rows[:70]))
    (tmp_path / "more.txt").write_text("".join(f"{t}\n" for t, _ in rows[70:]))
    logits = "".join(f"{t},{2 * (y == 'ball')},{2 * (y == 'none')}\n" for t, y in rows)
    (tmp_path / "logits.csv").write_text("text,ball,none\n" + logits)
    return tmp_path


def test_a_run_tunes_its_encoder_under_noise_and_with_texts_without_labels(tiny, table):
    given = {
        "data": str(table / "texts.csv"),
        "teacher": f"logits:{table / 'logits.csv'}",
        "encoder": f"{tiny}?layers=1,2",
        "unlabeled": str(table / "more.txt"),
        "qubits": 3,
        "layers": 1,
        "epochs": 3,
        "tune_encoder": 1,
        "tune_epochs": 2,
        "tune_lr": 0.002,
        "sim": "aer-noisy",
        "shots": 64,
        "controls": False,
        "runs": str(table / "runs"),
    }
    run = distill(name="noisy", **given)
    assert run.metrics.tuned_layers == 1 and run.metrics.tuned_gain.low <= run.metrics.tuned_gain.high
    assert run.metrics.lines["frozen encoder"].parameters == run.metrics.lines["student"].parameters
    assert run.student.encoder.arrays and (run.folder.student / "encoder.safetensors").is_file()
    assert "Fine-tuning 1 encoder layers: The student" in run.report.read_text()
    texts = [row.text for row in run.predictions]
    exact = run.student.logits(texts)
    assert exact.shape == (len(texts), 2) and np.isfinite(exact).all()
    again = distill(resume=True, name="noisy", runs=str(table / "runs"))
    assert np.array_equal(again.student.logits(texts), exact)
