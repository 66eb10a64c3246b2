"""What a study is asked for: who is compared, what is searched."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from qkd.core.specs import Count, Spec, option


class CompareSpec(Spec):
    """What ``qkd compare`` puts side by side."""

    students: Annotated[tuple[str, ...], Field(min_length=2)] = option(
        ("hardware", "qdllm", "product", "linear", "mlp", "logreg"),
        "Circuits, or linear, mlp, fourier, product, teacher-free, logreg, qdllm (the paper's recipe), "
        "model2vec:MODEL, encoder:MODEL, transformer:MODEL or a TOML file; the others are judged against the first.",
    )
    seeds: Count = option(10, "How often each student is trained, with seeds 0, 1, ...")
    sims: tuple[Literal["exact", "aer", "aer-noisy"], ...] = option(
        ("exact",),
        "What circuits are trained for and judged by, and a second one that they are measured with besides: exact, aer "
        "(shots), aer-noisy (shots under --device's noise, which training sees where it comes first).",
    )
    train_texts: Annotated[tuple[Count | Literal["all"], ...], Field(min_length=1)] = option(
        ("all",), "Numbers of training texts, or all; several make learning curves, the largest is judged."
    )
    shot_counts: tuple[Count, ...] = option((), "Numbers of shots at which trained circuits are measured too: a curve.")
    noise_scales: tuple[Annotated[float, Field(ge=0)], ...] = option(
        (), "Factors of the gate errors of --device at which they are measured too: a curve."
    )
    tune: Annotated[int, Field(ge=0)] = option(
        0,
        "How many settings of learning rate, weight decay and dropout each student may try, its own among them; the "
        "smallest validation loss chooses. 0 takes them as they are.",
    )


class SweepSpec(Spec):
    """What ``qkd sweep`` searches, and how long."""

    over: Annotated[tuple[str, ...], Field(min_length=1)] = option(
        ("qubits", "layers", "encoding", "observables", "encoder", "temperature", "alpha", "lr"),
        "A setting to search, or NAME=LOW..HIGH, or NAME=A,B,C (A|B where one has a comma); repeat it for several.",
    )
    trials: Count = option(50, "How many students are trained in the search, pruned ones included.")
    goal: Literal["accuracy", "loss"] = option("accuracy", "What the validation texts choose by.")
    prune: bool = option(True, "Stop a trial that is behind the median of those before it, from the sixth epoch on.")
    parallel: Count = option(8, "Trials proposed at once: more keep more cores busy and learn less from one another.")
    seeds: Count = option(
        5, "How often the best and the starting point are trained anew, to be judged on the test texts."
    )
    sweep_seed: int = option(0, "The seed of the search.")

    @model_validator(mode="after")
    def _losses_are_alike(self) -> SweepSpec:
        changed = {word.partition("=")[0].strip() for word in self.over} & {"temperature", "alpha", "loss"}
        if self.goal == "loss" and changed:
            raise ValueError(
                f"losses of different {', '.join(sorted(changed))} cannot be compared; goal = accuracy can"
            )
        return self
