"""The question about one text, in the forms that servers accept."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass, replace

from qkd.core.errors import ModelError
from qkd.teachers.prompt_files import PromptFile

CODES = string.ascii_uppercase + string.digits


@dataclass(frozen=True)
class Question:
    """A prompt for certain labels.

    Attributes:
        prompt: The template.
        classes: The C labels.
        words: The words that stand for each label.
        examples: Texts and class numbers that are shown first.
    """

    prompt: PromptFile
    classes: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]
    examples: tuple[tuple[str, int], ...] = ()

    @property
    def codes(self) -> tuple[str, ...]:
        """One character for each label.

        Raises:
            ModelError: there are more labels than characters.
        """
        if len(self.classes) > len(CODES):
            raise ModelError(
                f"{len(self.classes)} labels exceed the {len(CODES)} one-character codes; use --api-source votes"
            )
        return tuple(CODES[: len(self.classes)])

    def with_examples(self, examples: Sequence[tuple[str, int]]) -> Question:
        """Return the question with other examples."""
        return replace(self, examples=tuple(examples))

    def plain(self, text: str) -> str:
        """Return the prompt as one text; a word with a space before it is the answer."""
        shown = [f"{self._about(example)} {self.words[number][0]}\n\n" for example, number in self.examples]
        return "".join(shown) + self._about(text)

    def messages(self, text: str) -> list[dict[str, str]]:
        """Return the prompt as chat messages; the first word of a label is the answer."""
        return self._chat(text, "", [words[0] for words in self.words])

    def coded_messages(self, text: str) -> list[dict[str, str]]:
        """Return chat messages that ask for the one-character code of a label."""
        listed = "\n".join(f"{code}) {words[0]}" for code, words in zip(self.codes, self.words, strict=True))
        return self._chat(text, f"\n\n{listed}\nAnswer with the letter of the label alone.", self.codes)

    def _chat(self, text: str, suffix: str, answers: Sequence[str]) -> list[dict[str, str]]:
        turns = [{"role": "system", "content": self.prompt.system}] if self.prompt.system else []
        for example, number in self.examples:
            turns.append({"role": "user", "content": self._about(example) + suffix})
            turns.append({"role": "assistant", "content": answers[number]})
        return [*turns, {"role": "user", "content": self._about(text) + suffix}]

    def _about(self, text: str) -> str:
        listed = ", ".join(words[0] for words in self.words)
        return self.prompt.template.replace("{labels}", listed).replace("{text}", text)
