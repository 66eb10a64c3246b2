"""Descriptions of teachers, and what labeling with one returns."""

from __future__ import annotations

from pydantic import ConfigDict

from qkd.results.base import Result


def money(dollars: float) -> str:
    """Return an amount of US dollars, with four decimals below one dollar."""
    return f"${dollars:,.{2 if dollars >= 1 else 4}f}"


class SelectionTrial(Result):
    """One option that was compared with others on labeled texts: a prompt, or the layers of an encoder.

    Attributes:
        name: The prompt or the encoder.
        error: The error of the option. It is the mean cross-entropy in nats of a prompt, and the mean squared
            leave-one-out error of a ridge regression on an encoder's embeddings.
        accuracy: The accuracy of the option on the same texts.
        layers: The layers of the encoder.
    """

    name: str
    error: float
    accuracy: float
    layers: tuple[int, ...] = ()


class EndpointUse(Result):
    """Source and cost of the answers of an ``api:`` teacher.

    Attributes:
        source: Where the label probabilities come from: ``score``, ``likelihoods``, ``next-token`` or ``votes``.
        rejected: The more informative sources, each with the reason why this server cannot supply it.
        model: The model's name as the server reports it.
        fingerprint: The ``system_fingerprint`` that the server reports.
        urls: The servers, without credentials.
        requests: The number of answered requests, those of earlier jobs whose answers were stored included.
        prompt_tokens: The number of tokens read.
        completion_tokens: The number of tokens written.
        estimated: The number of requests whose tokens are estimated, because the server does not report them.
        dollars: The cost in US dollars; None without a price.
        unanswered: The number of texts without a usable answer.
        unlisted: The mean probability of tokens that the server did not list, of ``next-token``.
        standard_error: The mean standard error of the probabilities of ``votes``.
        unreadable: The mean number of samples without a label, of ``votes``.
    """

    source: str
    rejected: tuple[str, ...] = ()
    model: str | None = None
    fingerprint: str | None = None
    urls: tuple[str, ...] = ()
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimated: int = 0
    dollars: float | None = None
    unanswered: int = 0
    unlisted: float | None = None
    standard_error: float | None = None
    unreadable: float | None = None


class TeacherCard(Result):
    """Description of a teacher. Each kind has fields of its own, and may add others about its fitting.

    Attributes:
        name: The teacher as the user named it.
        kind: The kind of teacher, such as ``probe``.
        classes: The C class names.
        model: The model's name or folder.
        fingerprint: A hash of the model's configuration, tokenizer and weights.
        file: The file of a ``logits:`` teacher.
        read: The layers whose hidden states a ``probe:`` teacher reads.
        likelihoods: Whether a ``probe:`` teacher also reads the likelihoods of the text.
        layers: The number of layers of a ``probe:`` model, or the adapted layers of ``lora:``.
        prompt: The prompt that was chosen.
        prompts: The prompts that were compared.
        words: The words that stand for each class in a prompt.
        shots: The number of examples of each class in a prompt.
        calibrated: The calibration of a prompt's scores.
        near: The W tokens near the classes' words, which are scored too.
        weight: The matrix (C,C+W) from scores to logits.
        bias: The vector (C,) that is added to the logits.
        labels: The model's labels that count for each class of a ``classifier:`` teacher.
        endpoint: The source, the server and the tokens of an ``api:`` teacher.
    """

    model_config = ConfigDict(extra="allow")

    name: str
    kind: str = ""
    classes: tuple[str, ...] | None = None
    model: str | None = None
    fingerprint: str | None = None
    file: str | None = None
    read: tuple[int, ...] | None = None
    likelihoods: bool | None = None
    layers: int | list[int] | None = None
    prompt: str | None = None
    prompts: tuple[SelectionTrial, ...] | None = None
    words: dict[str, list[str]] | None = None
    shots: int | None = None
    calibrated: str | None = None
    near: tuple[str, ...] | None = None
    weight: list[list[float]] | None = None
    bias: tuple[float, ...] | None = None
    labels: dict[str, list[str]] | None = None
    endpoint: EndpointUse | None = None


class Labeling(Result):
    """A teacher's labels for a corpus.

    Attributes:
        file: The Parquet file of logits.
        texts: The number of texts.
        classes: The C class names.
        seconds: The wall time.
        valid_accuracy: The teacher's accuracy on the validation texts.
        valid_chance: The share of the most frequent label among the validation texts.
        predicted: The number of texts of each predicted label.
        teacher: The teacher.
    """

    file: str
    texts: int
    classes: tuple[str, ...]
    seconds: float
    valid_accuracy: float
    valid_chance: float
    predicted: dict[str, int]
    teacher: TeacherCard
