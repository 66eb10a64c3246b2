"""Static tables are distilled from training texts in context, and keep the tokens that matter."""

import json

import numpy as np
import pytest
import torch

from qkd.core.config import make_config
from qkd.encoders import static
from qkd.encoders.combined import JoinedEncoder
from qkd.encoders.registry import make_encoder
from qkd.encoders.static import StaticEncoder, fit_tables
from qkd.pipeline.inputs import choose_encoder
from qkd.teachers.labeling import load_corpus

WORDS = ["the", "cat", "sat", "mat", "ran", "barrier", "bar", "##rier", "dog", "red"]
TEXTS = ["the cat sat", "cats sat", "the mat ran the mat", "red cats ran"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A random BERT whose tokenizer is WordPiece with special tokens at both ends."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    letters = [mark + letter for letter in "abcdefghijklmnopqrstuvwxyz" for mark in ("", "##")]
    tokens = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", *letters, *WORDS]
    tokenizer = Tokenizer(models.WordPiece({t: n for n, t in enumerate(tokens)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(token, tokens.index(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    folder = tmp_path_factory.mktemp("bert")
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    torch.manual_seed(3)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
    BertModel(BertConfig(vocab_size=len(tokens), **sizes)).save_pretrained(folder)
    return folder


def pieces(encoder, text):
    """The tokens of a text as strings."""
    vocabulary = json.loads(encoder.arrays["tokenizer"].tobytes())["model"]["vocab"]
    strings = {number: token for token, number in vocabulary.items()}
    return [strings[number] for number in encoder.tokens([text])[0]]


def test_a_vector_is_the_mean_state_of_its_token_in_the_texts_and_alone(bert):
    from transformers import AutoModel, AutoTokenizer

    network, tokenizer = AutoModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    kept = [n for n in range(len(tokenizer)) if n != tokenizer.convert_tokens_to_ids("[unused0]")]

    def states(ids):
        with torch.inference_mode():
            hidden = network(torch.tensor([ids]), output_hidden_states=True).hidden_states
        return torch.stack([hidden[layer][0, 1:-1] for layer in (0, 2, 3)], dim=1).numpy()

    texts = [tokenizer(text)["input_ids"] for text in TEXTS]
    rows = [(token, row) for ids in texts for token, row in zip(ids[1:-1], states(ids), strict=True)]
    center = np.mean([row for _, row in rows], axis=0)
    alone = np.stack([states([texts[0][0], token, texts[0][-1]])[0] for token in kept])
    alone -= alone.mean(axis=0)
    means, counts = [], []
    for base, token in zip(alone, kept, strict=True):
        own = [row - center for other, row in rows if other == token]
        means.append(
            (static.ALONE_WEIGHT * base + np.sum(own or [0 * base], axis=0)) / (static.ALONE_WEIGHT + len(own))
        )
        counts.append(len(own))
    share = (np.array(counts) + 1) / (len(rows) + len(kept))
    scaled = np.stack(means) / np.sqrt(np.einsum("t,tld->l", share, np.square(means)))[:, None]
    ranks = 1 / (np.array(kept) + 1)
    expected = scaled.reshape(len(kept), -1) * (static.SIF_WEIGHT / (static.SIF_WEIGHT + ranks / ranks.sum()))[:, None]

    encoder = make_encoder(f"static:{bert}?dim=48").fit(TEXTS)  # all directions: the vectors are rotated and no more
    found = encoder.arrays["table"].astype(np.float64)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, rtol=0.01, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(["cat cat"]), encoder.encode(["cat"]), atol=1e-6)


def test_rare_words_that_no_text_has_are_split_and_seen_ones_stay(bert, monkeypatch):
    whole = make_encoder(f"static:{bert}?dim=4").fit(TEXTS)
    assert pieces(whole, "barrier [unused0]")[0] == "barrier"
    assert not {"[SEP]", "[CLS]"} & {*pieces(whole, "the cat [SEP] [CLS]")}  # marks in a text are ordinary characters
    monkeypatch.setattr(static, "MAX_TABLE_TOKENS", 62)  # four of the unseen words are too many
    small = make_encoder(f"static:{bert}?dim=4").fit(TEXTS)
    assert len(small.arrays["table"]) == 62 < len(whole.arrays["table"])
    for text in TEXTS:
        assert pieces(small, text) == pieces(whole, text)
    assert pieces(small, "barrier")[:2] == ["b", "##a"] and np.isfinite(small.encode(["barrier", "§", ""])).all()
    assert small.key != whole.key
    again = StaticEncoder("static:elsewhere", 4, small.arrays)
    assert again.key == small.key and again.fit(["the dog"]) is again
    np.testing.assert_array_equal(again.encode(TEXTS), small.encode(TEXTS))


def test_joined_encoders_are_fitted_in_their_static_parts(bert):
    joined = make_encoder(f"hashing:8+static:{bert}?dim=4")
    fitted = fit_tables(joined, TEXTS)
    assert isinstance(fitted, JoinedEncoder) and fitted.parts[0] is joined.parts[0]
    assert fitted.parts[1].key == make_encoder(f"static:{bert}?dim=4").fit(TEXTS).key != joined.parts[1].key


def test_a_run_fits_on_training_and_unlabeled_texts_alone(bert, tmp_path):
    rows = [f"{' '.join(WORDS[n % 5 : n % 5 + 3])} {'red' if n % 2 else 'dog'} x{n}" for n in range(40)]
    (tmp_path / "texts.csv").write_text("text,label\n" + "".join(f"{t},{n % 2}\n" for n, t in enumerate(rows)))
    (tmp_path / "more.csv").write_text("text\n" + "".join(f"{text}\n" for text in TEXTS))
    files = {"data": str(tmp_path / "texts.csv"), "unlabeled": str(tmp_path / "more.csv")}
    config = make_config({"data": files, "engine": {"torch_device": "cpu"}})
    corpus = load_corpus(config)
    name = f"static:{bert}?dim=4"
    encoder, _ = choose_encoder(name, config, corpus, False)
    train = [corpus.dataset.texts[row] for row in corpus.splits.train]
    assert len(train) < 40 and list(corpus.unlabeled) == TEXTS
    assert encoder.key == make_encoder(name).fit([*train, *TEXTS]).key
    assert encoder.key != make_encoder(name).fit(corpus.texts).key
