"""Settings of ``qkd compare`` and ``qkd sweep``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from qkd.core.specs import Count, Seed, Spec, option


class CompareSpec(Spec):
    """The students of ``qkd compare`` and their evaluation."""

    students: Annotated[tuple[str, ...], Field(min_length=2)] = option(
        ("hardware", "qdllm", "product", "linear", "mlp", "logreg"),
        "Circuits, or linear, mlp, fourier, product, teacher-free, logreg, qdllm (the paper's recipe), "
        "encoder:MODEL, transformer:MODEL or a TOML file; the others are compared with the first.",
    )
    seeds: Count = option(10, "Number of trainings of each student, with seeds 0, 1, ...")
    sims: tuple[Literal["exact", "aer", "aer-noisy"], ...] = option(
        ("exact",),
        "The simulator that circuits are trained for and judged by, and a second one that measures them: exact, aer "
        "(shots) or aer-noisy (shots under --device's noise). Training includes the noise if it comes first.",
    )
    train_texts: Annotated[tuple[Count | Literal["all"], ...], Field(min_length=1)] = option(
        ("all",), "Numbers of training texts, or all; several make learning curves, the largest is judged."
    )
    shot_counts: tuple[Count, ...] = option((), "Numbers of shots of a curve that measures the trained circuits.")
    noise_scales: tuple[Annotated[float, Field(ge=0)], ...] = option(
        (), "Factors of --device's gate errors of a curve that measures the trained circuits."
    )
    tune: Annotated[int, Field(ge=0)] = option(
        0,
        "Number of settings of learning rate, weight decay and dropout that each student tries, its own included; the "
        "smallest validation loss chooses. 0 keeps the settings.",
    )


class SweepSpec(Spec):
    """The search space of ``qkd sweep`` and the length of the search."""

    over: Annotated[tuple[str, ...], Field(min_length=1)] = option(
        (
            "qubits=3..12",
            "layers=1..4",
            "encoder=minilm?layers=4|minilm?layers=4,6|minilm?layers=6",
            "temperature=1.0..8.0",
            "alpha=0.0..1.0",
            "lr=0.0005..0.05",
        ),
        "A setting to search, NAME=LOW..HIGH or NAME=A,B,C (A|B if a value has a comma); repeat it for several.",
    )
    trials: Count = option(50, "Number of students that the search trains, pruned ones included.")
    goal: Literal["accuracy", "loss"] = option("accuracy", "The validation score that the search improves.")
    prune: bool = option(True, "Stop a trial below the median of earlier trials, from the sixth epoch on.")
    parallel: Count = option(8, "Trials proposed together: more use more cores but learn less from one another.")
    seeds: Count = option(
        5, "Number of trainings of the best and the starting point, which the test texts judge at the end."
    )
    sweep_seed: Seed = option(0, "The seed of the search.")

    @model_validator(mode="after")
    def _losses_are_comparable(self) -> SweepSpec:
        changed = {word.partition("=")[0].strip() for word in self.over} & {"temperature", "alpha", "loss"}
        if self.goal == "loss" and changed:
            raise ValueError(
                f"losses of different {', '.join(sorted(changed))} cannot be compared; goal = accuracy can"
            )
        return self
