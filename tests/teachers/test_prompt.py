"""The prompted teacher: every likelihood is the one that the LM gives to the whole sequence, read token by token."""

import numpy as np
import pytest
import torch
from scipy.special import softmax

from qkd.core.config import make_config
from qkd.core.errors import QkdError
from qkd.data import loading as data
from qkd.teachers import prompt_files
from qkd.teachers.calibration import calibrate, matrix_scaling
from qkd.teachers.causal_lm import CausalLM
from qkd.teachers.prompt import PromptTeacher
from qkd.teachers.registry import make_teacher
from tests.models.conftest import SENTENCES, animals, save_model


def by_hand(model, prompt, answer):
    """Mean log-likelihood of ``answer`` after ``prompt``, one plain forward pass over both."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model).eval()
    with torch.inference_mode():
        rows = network(torch.tensor([prompt + answer])).logits[0].log_softmax(dim=1)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return float(np.mean([rows[place, token] for place, token in zip(places, answer, strict=True)]))


def test_likelihoods_of_several_tokens_are_those_of_the_whole_sequence(model):
    lm = CausalLM(str(model))
    asked = [lm.tokens([sentence])[0][: 3 + n] for n, sentence in enumerate(SENTENCES)]
    answers = [[4], [5, 9, 12], [7, 3]]
    found = lm.likelihoods(asked, answers)
    for row, prompt in enumerate(asked):
        expected = [by_hand(model, prompt, answer) for answer in answers]
        np.testing.assert_allclose(found[row], expected, atol=1e-5)


def test_a_beginning_that_is_shared_changes_no_score(model):
    lm = CausalLM(str(model))
    start = lm.tokens([" ".join(SENTENCES[:2])])[0]
    asked = [start + lm.tokens([sentence])[0][: 1 + n] for n, sentence in enumerate(SENTENCES)]
    answers = [[4], [5, 9, 12]]
    found = lm.likelihoods(asked, answers)
    for row, prompt in enumerate(asked):
        alone = [by_hand(model, prompt, answer) for answer in answers]
        np.testing.assert_allclose(found[row], alone, atol=2e-5)
        np.testing.assert_allclose(lm.likelihoods([prompt], answers)[0], alone, atol=2e-5)


def settings(tmp_path, **more):
    """A prompt whose words the tiny tokenizer knows, of one and of two tokens, one label with a synonym."""
    file = tmp_path / "prompt.toml"
    file.write_text(
        'template = "{text} is a"\n[verbalizers]\n"kind 0" = ["cat", "mat"]\n"kind 1" = ["red ball"]\n'
        '"kind 2" = ["electrons"]\n'
    )
    return make_config({"prompt": {"prompt": str(file), **more}})


def fitted(model, dataset, config):
    teacher = make_teacher(f"prompt:{model}", config=config)
    teacher.fit(dataset, data.split_dataset(dataset))
    return teacher


def test_a_label_is_worth_the_mean_of_its_words(model, tmp_path):
    dataset = animals(3)
    teacher = fitted(model, dataset, settings(tmp_path, calibrate="none"))
    logits = teacher.predict_logits(dataset.texts) / teacher.describe().weight[0][0]
    assert logits.shape == (len(dataset.texts), 3)
    lm = CausalLM(str(model))
    ids = {word: lm.tokens([word])[0] for word in ("cat", "mat", "red ball", "electrons")}
    for row in (0, 50):
        prompt = lm.tokens([dataset.texts[row] + " is a"])[0]
        cat, mat, ball, electrons = (by_hand(model, prompt, ids[word]) for word in ids)
        expected = [np.log((np.exp(cat) + np.exp(mat)) / 2), ball, electrons]
        np.testing.assert_allclose(logits[row], expected, atol=1e-4)


def test_answers_are_cached_by_prompt_and_one_new_text_costs_one_call(model, tmp_path, monkeypatch):
    dataset = animals(3)
    first = fitted(model, dataset, settings(tmp_path)).logits(dataset.texts)
    asked = []
    real = CausalLM.likelihoods
    monkeypatch.setattr(CausalLM, "likelihoods", lambda self, p, a: asked.append(len(p)) or real(self, p, a))
    again = fitted(model, dataset, settings(tmp_path))
    np.testing.assert_array_equal(again.logits(dataset.texts), first)
    assert asked == []
    again.logits([*dataset.texts, "a red cat"])
    assert asked == [1]
    others = np.concatenate([getattr(data.split_dataset(dataset), part) for part in ("valid", "test")])
    texts = [dataset.texts[row] for row in others]
    np.testing.assert_allclose(again.predict_logits(texts), first[others], atol=1e-4)
    fitted(model, dataset, settings(tmp_path, examples=1))
    assert sum(asked) > 1


def test_calibration_adds_a_bias_for_each_label_and_is_fitted_on_training_texts(model, tmp_path):
    dataset = animals(3)
    splits = data.split_dataset(dataset)
    plain, calm = (fitted(model, dataset, settings(tmp_path, calibrate=value)) for value in ("none", "labels"))
    facts = calm.describe()
    scores = plain.predict_logits(dataset.texts) / plain.describe().weight[0][0]
    logits = scores @ np.array(facts.weight) + facts.bias
    np.testing.assert_allclose(calm.logits(dataset.texts)[splits.test], logits[splits.test], atol=1e-4)
    np.testing.assert_allclose(calm.predict_logits(dataset.texts[:5]), logits[:5], atol=1e-4)
    shares = softmax(logits[splits.train], axis=1).mean(
        axis=0
    )  # those of the labels, where the biases are the best ones
    np.testing.assert_allclose(shares, np.bincount(dataset.targets[splits.train]) / len(splits.train), atol=5e-3)
    others = np.where(np.isin(np.arange(len(dataset.texts)), splits.train), dataset.targets, 0)
    swapped = data.Dataset(dataset.texts, tuple(dataset.classes[number] for number in others))
    again = make_teacher(f"prompt:{model}", config=settings(tmp_path, calibrate="labels"))
    again.fit(swapped, splits)
    for name in ("weight", "bias"):
        assert getattr(again.describe(), name) == getattr(facts, name)  # labels of other texts have no say


def test_without_labels_every_label_gets_its_mean_score_taken_off(model, tmp_path):
    dataset = animals(3)
    train = data.split_dataset(dataset).train
    plain, calm = (fitted(model, dataset, settings(tmp_path, calibrate=how)) for how in ("none", "batch"))
    scores = plain.predict_logits(dataset.texts) / plain.describe().weight[0][0]
    weight = np.array(calm.describe().weight)
    np.testing.assert_allclose(weight, weight[0, 0] * np.eye(3))
    expected = (scores - scores[train].mean(axis=0)) * weight[0, 0]
    np.testing.assert_allclose(calm.predict_logits(dataset.texts), expected, atol=1e-3)


def test_words_near_the_labels_are_those_at_the_least_angle_and_are_scored_in_the_same_pass(
    model, tmp_path, monkeypatch
):
    lm = CausalLM(str(model))
    table = lm.network.get_input_embeddings().weight.detach().numpy()
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    expected = {int(n) for ids in ([4], [5, 9]) for n in np.argsort(-(unit @ unit[ids].mean(axis=0)))[:3]}
    assert sorted(expected) == lm.near([[4], [5, 9]], 3).tolist() and 4 in expected
    dataset, asked = animals(3), []
    real = CausalLM.likelihoods
    monkeypatch.setattr(CausalLM, "likelihoods", lambda self, p, a: asked.append(len(a)) or real(self, p, a))
    teacher = fitted(model, dataset, settings(tmp_path))
    facts = teacher.describe()
    assert set(asked) == {4 + len(facts.near)} and len(facts.weight) == 3 + len(facts.near)
    row, prompt = 7, lm.tokens([dataset.texts[7] + " is a"])[0]
    last = lm.tokenizer.convert_tokens_to_ids(facts.near)[-1]
    scores = teacher.scores(dataset.texts)
    np.testing.assert_allclose(scores[row, -1], by_hand(model, prompt, [last]), atol=1e-4)
    expected = scores @ np.array(facts.weight) + facts.bias
    np.testing.assert_allclose(teacher.predict_logits(dataset.texts), expected, atol=1e-3)


def test_near_words_count_where_they_tell_something_and_not_where_they_do_not():
    rng = np.random.default_rng(3)
    targets = rng.integers(0, 2, 240)
    scores = rng.normal(size=(240, 2)) + 0.5 * np.eye(2)[targets]
    noise = rng.normal(size=(240, 30))
    telling = noise + 0.5 * rng.normal(size=30) * (2 * targets[:, None] - 1)
    labels, useless, useful = (
        calibrate(np.hstack([scores, more]), targets, 2, how)
        for more, how in ((noise, "labels"), (noise, "words"), (telling, "words"))
    )
    assert useful.accuracy > labels.accuracy + 0.15 and useful.loss < 0.7 * labels.loss
    assert useless.loss <= labels.loss and not labels.weight[2:].any()
    np.testing.assert_allclose(useless.weight[:2], labels.weight[:2], atol=0.2)


def test_what_a_student_learns_of_a_text_has_not_seen_the_texts_label(model, tmp_path):
    dataset = animals(3)
    splits = data.split_dataset(dataset)
    teacher = fitted(model, dataset, settings(tmp_path))
    assert teacher.cross_fitted
    row = splits.train[5]
    other = tuple(
        dataset.classes[(number + 1) % 3] if place == row else label
        for place, (number, label) in enumerate(zip(dataset.targets, dataset.labels, strict=True))
    )
    again = make_teacher(f"prompt:{model}", config=settings(tmp_path))
    again.fit(data.Dataset(dataset.texts, other), splits)
    text = [dataset.texts[row]]
    drift = np.abs(again.logits(text) - teacher.logits(text)).max()  # a strength may change, another's label not
    assert drift < np.abs(again.predict_logits(text) - teacher.predict_logits(text)).max()


def test_of_several_prompts_the_best_is_taken(model, tmp_path, monkeypatch):
    dataset = animals(2)
    known = dict(zip(dataset.texts, dataset.targets, strict=True))
    good, bad = (tmp_path / f"{name}.toml" for name in ("good", "bad"))
    for file in (good, bad):
        file.write_text(f'template = "{file.stem} {{text}}"\n[verbalizers]\n"kind 0" = ["cat"]\n"kind 1" = ["dog"]\n')

    def scores(self, texts):  # one prompt is understood in three of four cases
        if self._prompt.template.startswith("bad"):
            return np.zeros((len(texts), 2), np.float32)
        said = [known[text] ^ (len(text) % 4 == 0) for text in texts]
        return np.eye(2, dtype=np.float32)[said]

    monkeypatch.setattr(PromptTeacher, "_scores", scores)
    for names in ((good, bad), (bad, good)):
        facts = fitted(model, dataset, make_config({"prompt": {"prompt": [str(name) for name in names]}})).describe()
        assert facts.prompt == "good {text}"
        tried = {row.name: row for row in facts.prompts}
        assert list(tried) == [str(name) for name in names]
        assert tried[str(bad)].error == pytest.approx(np.log(2), abs=0.05)
        assert tried[str(good)].accuracy > 0.6 and tried[str(good)].error < tried[str(bad)].error
    assert list(prompt_files.read_prompts(["auto", str(good)])) == [*prompt_files.BUILT_IN, str(good)]


def test_a_prompt_without_room_is_left_out_where_another_has_some(model, tmp_path):
    words = '[verbalizers]\n"kind 0" = ["cat"]\n"kind 1" = ["dog"]\n'
    long, short = tmp_path / "long.toml", tmp_path / "short.toml"
    long.write_text(f'template = "{"cat " * 60}{{text}}"\n{words}')
    short.write_text(f'template = "{{text}} is a"\n{words}')
    facts = fitted(model, animals(2), make_config({"prompt": {"prompt": [str(long), str(short)]}})).describe()
    assert facts.prompt == "{text} is a" and [row.name for row in facts.prompts] == [str(short)]
    with pytest.raises(QkdError, match=r"takes 6[0-9] tokens"):
        fitted(model, animals(2), make_config({"prompt": {"prompt": [str(long)]}}))


def test_a_map_of_scores_is_found_again_and_few_texts_leave_a_temperature():
    rng = np.random.default_rng(2)
    scores, bias = rng.normal(size=(20_000, 3)), np.array([1.0, 0.0, -1.0])
    true = 2 * np.eye(3) + np.array([[0, 0.7, 0], [0, 0, 0], [-0.5, 0, 0]])
    targets = (scores @ true + bias + rng.gumbel(size=scores.shape)).argmax(axis=1)
    shifted = scores + np.array([5.0, 0.0, 3.0])
    weight, found = matrix_scaling(shifted, targets, 3)
    difference = softmax(shifted @ weight + found, 1) - softmax(scores @ true + bias, 1)
    assert np.abs(difference).mean() < 0.01 and np.abs(difference).max() < 0.1
    weight, _ = matrix_scaling(shifted[:6], targets[:6], 3)
    assert np.abs(weight - np.diag(np.diag(weight))).max() < np.diag(weight).min() / 5


def test_a_teacher_at_chance_is_told_and_one_that_knows_is_not(model, tmp_path, capsys, monkeypatch):
    dataset = animals(3)
    known = dict(zip(dataset.texts, dataset.targets, strict=True))
    monkeypatch.setattr(PromptTeacher, "_scores", lambda self, texts: np.zeros((len(texts), 3), np.float32))
    fitted(model, dataset, settings(tmp_path))
    assert "it may be no better than chance" in capsys.readouterr().err.replace("\n", " ")
    clever = lambda self, texts: 9 * np.eye(3, dtype=np.float32)[[known[text] for text in texts]]  # noqa: E731
    monkeypatch.setattr(PromptTeacher, "_scores", clever)
    fitted(model, dataset, settings(tmp_path, examples=1))
    assert "chance" not in capsys.readouterr().err


def test_examples_are_mixed_complete_and_never_the_text_itself(model, tmp_path, monkeypatch):
    dataset = animals(3)
    orders, asked = set(), []
    for seed in range(6):
        teacher = make_teacher(f"prompt:{model}", config=settings(tmp_path, examples=2, examples_seed=seed))
        examples, spare = prompt_files.draw_examples(dataset, data.split_dataset(dataset), teacher.spec)
        labels = [label for _, label in examples]
        assert sorted(labels) == [0, 0, 1, 1, 2, 2] and len({*spare, *(text for text, _ in examples)}) == 9
        assert [dataset.labels[dataset.texts.index(text)] for text in spare] == list(dataset.classes)
        orders.add(tuple(labels))
    assert len(orders) > 2
    teacher = fitted(model, dataset, settings(tmp_path, examples=1))
    text, label = teacher._examples[0]
    real = CausalLM.likelihoods
    seen = lambda self, p, a: asked.extend(p) or real(self, p, a)  # noqa: E731
    monkeypatch.setattr(CausalLM, "likelihoods", seen)
    found = teacher.predict_logits([text, "a red cat"])
    ids = CausalLM(str(model)).tokens([text, teacher._spare[label]])
    spelled = [" ".join(map(str, prompt)) for prompt in asked]  # the usual prompt first
    counts = [[line.count(" ".join(map(str, part))) for part in ids] for line in spelled]
    assert counts == [[1, 0], [1, 1]]
    np.testing.assert_allclose(found[0], teacher._fitted(teacher.scores([text]))[0], atol=1e-4)


def test_more_examples_than_there_are_is_one_sentence(model, tmp_path):
    with pytest.raises(QkdError, match=r"examples 20: label 'kind 0' has \d+ training texts, and 21 are needed"):
        fitted(model, animals(3), settings(tmp_path, examples=20))


def test_examples_come_from_the_training_split_by_seed(model, tmp_path):
    dataset = animals(3)
    splits = data.split_dataset(dataset)
    train = {dataset.texts[row] for row in splits.train}
    asked = {}
    for seed in (0, 0, 1):
        prompt = fitted(model, dataset, settings(tmp_path, examples=1, examples_seed=seed)).describe().prompt
        lines = [line for line in prompt.split("\n") if line]
        assert len(lines) == 4 and sum(any(line.startswith(text) for text in train) for line in lines) == 3
        assert asked.setdefault(seed, prompt) == prompt
    assert asked[0] != asked[1]


def test_a_chat_template_is_used_where_there_is_one(tmp_path):
    from transformers import AutoTokenizer

    folder = save_model(tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}assistant "
    tokenizer.save_pretrained(folder)
    dataset = animals(2)
    told = fitted(folder, dataset, with_words(tmp_path, "of {labels}: {text}", examples=1)).describe().prompt
    assert told.startswith("user of cat, dog: ") and told.endswith("user of cat, dog: {text} assistant ")
    assert told.count("user") == 3 and told.count("assistant") == 3
    plain = fitted(folder, dataset, with_words(tmp_path, "{text}:", chat="false")).describe().prompt
    assert plain == "{text}:"


def with_words(tmp_path, template, chat="true", **more):
    file = tmp_path / f"{chat}.toml"
    words = '"kind 0" = ["cat"]\n"kind 1" = ["dog"]'
    file.write_text(f'template = "{template}"\nchat = {chat}\n[verbalizers]\n{words}\n')
    return make_config({"prompt": {"prompt": str(file), **more}})


def test_words_that_collide_or_are_empty_are_refused_with_their_tokens(model):
    dataset = animals(2)
    with pytest.raises(QkdError, match=r"the labels 'kind 0' and 'kind 1' .* same tokens .*'<unk>', '<unk>'"):
        fitted(model, dataset, make_config({}))
    tokenizer = CausalLM(str(model)).tokenizer
    question = prompt_files.label_prompt(
        prompt_files.PromptFile(template="{text}", verbalizers={"a": (" ",)}), ["a"], tokenizer
    )
    with pytest.raises(QkdError, match=r"the word ' ' for the label 'a' has no tokens \(its tokens are \[\]\)"):
        question.answers(["a"])
    with pytest.raises(QkdError, match=r"words for a label 'b' that the data lack; known are: a"):
        prompt_files.label_prompt(
            prompt_files.PromptFile(template="{text}", verbalizers={"b": ("x",)}), ["a"], tokenizer
        )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.txt", "What is this?", r"p\.txt: template = .* must contain \{text\} once"),
        ("p.toml", 'template = "{text}"\nwords = 1', r"p\.toml: there is no key 'words'"),
        ("clasify", None, r"prompt 'clasify': .*did you mean 'classify'"),
    ],
)
def test_prompts_that_cannot_be_used(tmp_path, name, content, words):
    if content:
        (tmp_path / name).write_text(content)
    with pytest.raises(QkdError, match=words):
        prompt_files.read_prompt(str(tmp_path / name) if content else name)


def test_a_prompt_that_leaves_no_room_and_texts_that_are_cut(model, tmp_path, capsys):
    dataset = animals(3)
    with pytest.raises(QkdError, match=r"takes \d+ tokens with 3 labels and 12 examples, and the model holds 64"):
        fitted(model, dataset, settings(tmp_path, examples=4))
    teacher = fitted(model, dataset, settings(tmp_path))
    teacher.logits(["the red cat " * 40])
    assert "1 of 1 texts are longer than" in capsys.readouterr().err


def test_a_prompt_file_that_is_not_utf_8_is_one_sentence(tmp_path):
    (tmp_path / "p.txt").write_bytes(b"caf\xe9 {text}")
    with pytest.raises(QkdError, match=r"p\.txt: line 1, byte 4 \(0xe9\) is not UTF-8"):
        prompt_files.read_prompt(str(tmp_path / "p.txt"))
