r"""Prompts of ``prompt:`` and ``api:`` teachers: template, words for each label, examples.

A prompt file is TOML::

    template = "Is this review good or bad? Answer with one word.\\n\\n{text}\n"   # {labels} lists the words
    system = "You are a careful annotator."                                      # chat models only, optional
    chat = true                                    # use the tokenizer's chat template; by default, if it has one
    [verbalizers]                                  # a missing label is its own word
    positive = ["good", "great"]
    negative = ["bad", "awful"]

or a text file that contains the template alone. Without a chat template, words follow the template after one space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from qkd.core.errors import DataError, ModelError, nearest
from qkd.core.specs import Spec, option, read_toml, validated
from qkd.core.teacher_config import PromptSpec
from qkd.data.dataset import Dataset, Splits, shuffled_by_content
from qkd.data.tables import read_utf8


class PromptFile(Spec):
    """Content of a prompt file."""

    template: str = Field(description="The prompt, in which {text} becomes the text and {labels} the list of words.")
    system: str | None = option(None, "A chat model's instructions.")
    chat: bool | None = option(None, "Use the tokenizer's chat template; default: if it has one.")
    verbalizers: dict[str, tuple[str, ...]] = option({}, "The words of each label.")

    @field_validator("template")
    @classmethod
    def _contains_text(cls, value: str) -> str:
        if value.count("{text}") != 1:
            raise ValueError("it must contain {text} once")
        return value


# Prompts without a file, and the name that means all of them.
AUTO = "auto"
BUILT_IN = {
    "classify": PromptFile(
        template="Which of these labels fits the text best: {labels}? Answer with the label alone.\n\n"
        "Text: {text}\nLabel:"
    ),
    "continue": PromptFile(template="{text}\n\nThe text above in one word:", chat=False),
    "category": PromptFile(template="{text}\nCategory:", chat=False),
}


def read_prompts(names: Sequence[str]) -> dict[str, PromptFile]:
    """Return prompts by name; ``auto`` means all built-in ones."""
    listed = [prompt for name in names for prompt in (BUILT_IN if name == AUTO else [name])]
    return {name: read_prompt(name) for name in listed}


def read_prompt(name: str) -> PromptFile:
    """Return a built-in prompt, or the one in a file."""
    path = Path(name)
    if name in BUILT_IN:
        return BUILT_IN[name]
    if path.suffix == ".toml":
        return validated(PromptFile, read_toml(path), name)
    if path.is_file():
        return validated(PromptFile, {"template": read_utf8(path).rstrip()}, name)
    raise ModelError(f"--prompt '{name}': neither a file nor a built-in prompt{nearest(name, BUILT_IN)}")


@dataclass(frozen=True)
class LabelPrompt:
    """A prompt for given labels and a given tokenizer.

    Attributes:
        prompt: The prompt.
        words: The words of each label, in the order of the labels.
        tokenizer: The model's tokenizer.
        examples: Texts and words that precede the text.
    """

    prompt: PromptFile
    words: tuple[tuple[str, ...], ...]
    tokenizer: Any
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def chat(self) -> bool:
        """True if the tokenizer's chat template is used."""
        return bool(self.tokenizer.chat_template) if self.prompt.chat is None else self.prompt.chat

    def with_examples(self, examples: Sequence[tuple[str, int]]) -> LabelPrompt:
        """Return the prompt with ``(text, class number)`` examples."""
        return replace(self, examples=tuple((text, self.words[number][0]) for text, number in examples))

    def rendered(self, text: str) -> str:
        """Return the whole prompt for ``text``."""
        if not self.chat:
            shown = [f"{self._about(example)} {word}\n\n" for example, word in self.examples]
            return "".join(shown) + self._about(text)
        turns = [{"role": "system", "content": self.prompt.system}] if self.prompt.system else []
        for example, word in self.examples:
            turns += [{"role": "user", "content": self._about(example)}, {"role": "assistant", "content": word}]
        turns.append({"role": "user", "content": self._about(text)})
        return str(self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False))

    def ids(self, prompt: str) -> list[int]:
        """Return a prompt's token ids. A chat template contains the special tokens already."""
        return list(self.tokenizer(prompt, add_special_tokens=not self.chat, verbose=False)["input_ids"])

    def answers(self, classes: Sequence[str]) -> list[list[list[int]]]:
        """Return the token ids of every word, label by label."""
        by_label, owner = [], dict[tuple[int, ...], tuple[str, str]]()
        for name, words in zip(classes, self.words, strict=True):
            by_label.append([self._word(name, word) for word in words])
            for word, ids in zip(words, by_label[-1], strict=True):
                other, same = owner.setdefault(tuple(ids), (name, word))
                if other != name:
                    tokens = self.tokenizer.convert_ids_to_tokens(ids)
                    raise ModelError(
                        f"the words '{same}' and '{word}' of the labels '{other}' and '{name}' are the same tokens "
                        f"for this model ({', '.join(map(repr, tokens))}); give other words in "
                        "[verbalizers] of a --prompt file"
                    )
        return by_label

    def _word(self, name: str, word: str) -> list[int]:
        text = word.strip() if self.chat else f" {word.strip()}"
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"]) if word.strip() else []
        if not ids:
            raise ModelError(
                f"the word {word!r} for the label '{name}' has no tokens (its tokens are {ids}); give another in "
                "[verbalizers] of a --prompt file"
            )
        return ids

    def _about(self, text: str) -> str:
        listed = ", ".join(words[0] for words in self.words)
        return self.prompt.template.replace("{labels}", listed).replace("{text}", text)


def label_words(prompt: PromptFile, classes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the words of each of the labels ``classes``."""
    given: Mapping[str, tuple[str, ...]] = prompt.verbalizers
    for name, words in given.items():
        if name not in classes:
            raise ModelError(f"the prompt has words for a label '{name}' that the data lack{nearest(name, classes)}")
        if not words:
            raise ModelError(f"the prompt has an empty list of words for the label '{name}'; give at least one")
    chosen = tuple(given.get(name, (name,)) for name in classes)
    owners = dict[str, str]()
    for name, words in zip(classes, chosen, strict=True):
        for word in words:
            if owners.setdefault(word.strip(), name) != name:
                raise ModelError(
                    f"the labels '{owners[word.strip()]}' and '{name}' share the word '{word}'; give other words in "
                    "[verbalizers] of a --prompt file"
                )
    return chosen


def draw_examples(
    dataset: Dataset, splits: Splits, spec: PromptSpec
) -> tuple[tuple[tuple[str, int], ...], tuple[str, ...]]:
    """Return ``spec.examples`` training texts of each class with their class numbers, mixed, and one more text of each.

    The spare text replaces an example in the prompt about that example itself.
    """
    texts, count = [dataset.texts[row] for row in splits.train], spec.examples
    order = splits.train[shuffled_by_content(texts, spec.examples_seed)]
    drawn, spare = [], []
    for number, name in enumerate(dataset.classes):
        rows = order[dataset.targets[order] == number]
        if len(rows) <= count:
            raise DataError(
                f"--examples {count}: label '{name}' has {len(rows)} training texts, and {count + 1} are needed, "
                "one of them for prompts about an example; use fewer"
            )
        drawn += [(dataset.texts[row], number) for row in rows[:count]]
        spare.append(dataset.texts[rows[count]])
    mixed = shuffled_by_content([f"place of {text}" for text, _ in drawn], spec.examples_seed)
    return tuple(drawn[place] for place in mixed), tuple(spare)


def label_prompt(prompt: PromptFile, classes: Sequence[str], tokenizer: Any) -> LabelPrompt:
    """Return ``prompt`` for the labels ``classes``."""
    words = label_words(prompt, classes)
    if prompt.chat and not tokenizer.chat_template:
        raise ModelError("the prompt asks for a chat template and this model's tokenizer has none; set chat = false")
    return LabelPrompt(prompt, words, tokenizer)
