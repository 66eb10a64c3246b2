"""Several runs side by side, as a notebook asks for them: ``compare``, ``reproduce``, ``sweep``.

Thin, as ``api`` is: paths and names in, plain numbers out.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qkd.core.cluster import over_ray
from qkd.core.config import Config, read_config, to_toml
from qkd.core.console import log
from qkd.core.errors import QkdError
from qkd.core.files import write_json, write_text
from qkd.core.runs import Kind, RunFolder, existing_run, study_run
from qkd.experiments.specs import CompareSpec, SweepSpec
from qkd.pipeline.settings import by_section, settled

if TYPE_CHECKING:
    from qkd.experiments.candidates import Candidate
    from qkd.experiments.compare import Trials
    from qkd.results import Comparison, Reproduction, Sweep


def compare(
    base: str | Path | Config | None = None, spec: CompareSpec | None = None, *, ray: str | None = None, **options: Any
) -> Comparison:
    """Train several students with several seeds on the same texts, and compare them statistically.

    Trials that an earlier, perhaps killed, comparison of the same name has done are taken from it.

    Args:
        base: a run whose texts, teacher and student are taken, a configuration or its file; the defaults when left out.
        spec: who is compared, on how many seeds and texts.
        ray: the address of a Ray cluster, or ``local``, to spread the trials over.
        options: single settings by their CLI names with underscores; they override ``base``.

    Returns:
        The content of ``comparison.json``; ``report.html`` and ``report.md`` beside it say the same.

    Raises:
        QkdError: configuration, data, teacher or students do not fit.
        KeyboardInterrupt: it was stopped; the same call goes on.
    """
    spec = spec or CompareSpec()
    config = settled(_base(base), options)
    from qkd.experiments.candidates import make_candidates

    def again(folder: RunFolder) -> str:
        return f"qkd compare {shlex.quote(str(folder.config))} --name {folder.name} {_words(spec)}"

    students = make_candidates(spec.students, config)
    return _compared(config, students, spec, "compare", again, ray)


def reproduce(
    recipe: str = "qdllm",
    base: Config | None = None,
    *,
    seeds: int = 10,
    students: Sequence[str] = ("hardware", "linear", "logreg"),
    slips: Sequence[str] = ("padding", "js", "carried"),
    tune: int = 0,
    ray: str | None = None,
    **options: Any,
) -> Comparison:
    """Run the paper's recipe, the recipe with each deviation of its public code, and other students.

    Args:
        recipe: ``qdllm``, the only one there is.
        base: texts, teacher and encoder; the defaults, and the recipe's encoder, when left out.
        seeds: how often each is trained.
        students: others beside it, as ``compare`` knows them, with their own encoder.
        slips: which of ``comparison.reproduction.SLIPS`` are looked at.
        tune: how many settings the others may try, and beside the recipe as published a tuned one; see ``CompareSpec``.
        ray: the address of a Ray cluster, or ``local``, to spread the trials over.
        options: single settings by their CLI names with underscores (texts, teacher, epochs, ...); they override the
            recipe.

    Returns:
        The content of ``comparison.json``: that of ``compare``, and ``reproduction`` with slips and deviations.

    Raises:
        QkdError: there is no such recipe, or something does not fit.
        KeyboardInterrupt: it was stopped; the same call goes on.
    """
    from qkd.experiments.candidates import RECIPE, RECIPE_SECTIONS, recipe_file
    from qkd.experiments.reproduction import reproduced, variants

    if recipe != RECIPE:
        raise QkdError(f"there is no recipe '{recipe}'; the one there is is called {RECIPE}")
    overrides = by_section(options)
    config = settled(base or Config(encoder=read_config(recipe_file()).encoder), options)
    recipe_overrides = {key: value for key, value in overrides.items() if key[0] in RECIPE_SECTIONS}
    versions = variants(config, recipe_overrides, students, slips, tune > 1)
    spec = CompareSpec(students=tuple(version.name for version in versions), seeds=seeds, tune=tune)
    arguments = {"seeds": seeds, "students": students, "slips": slips, "tune": tune}
    arguments |= {
        key: value for key, value in options.items() if next(iter(by_section({key: value})))[0] in RECIPE_SECTIONS
    }

    def again(folder: RunFolder) -> str:
        words = _typed({"name": folder.name, **arguments})
        return f"qkd reproduce {recipe} --config {shlex.quote(str(folder.config))} {words}"

    return _compared(config, versions, spec, "reproduce", again, ray, reproduced)


def sweep(
    base: str | Path | Config | None = None, spec: SweepSpec | None = None, *, ray: str | None = None, **options: Any
) -> Sweep:
    """Search settings of the student by the validation texts, and judge the best on the test texts.

    Trials that an earlier, perhaps killed, sweep of the same name has done are taken from it.

    Args:
        base: a run, a configuration or its file: what is not searched, and where the search starts.
        spec: what is searched, and how long.
        ray: the address of a Ray cluster, or ``local``, to spread the trials over.
        options: single settings by their CLI names with underscores; they override ``base``.

    Returns:
        The content of ``sweep.json``; ``report.html`` and ``report.md`` beside it say the same;
        ``best.toml`` is the configuration of the best trial.

    Raises:
        QkdError: configuration, data, teacher or the space that is searched do not fit.
        KeyboardInterrupt: it was stopped; the same call goes on.
    """
    spec = spec or SweepSpec()
    config = settled(_base(base), options)
    from qkd.experiments import space as spaces
    from qkd.experiments.sweep import Commands, search
    from qkd.reports import sweep as pages
    from qkd.reports.pages import report_failures_as_warnings

    space = spaces.dimensions(spec.over, config)
    _warn_of_unseen(config)
    with _study_folder(config, "sweep") as folder, over_ray(ray):
        write_text(folder.config, to_toml(config))
        path = folder.path / "best.toml"
        commands = Commands(
            best=f"qkd distill --config {shlex.quote(str(path))}",
            again=f"qkd sweep {shlex.quote(str(folder.config))} --name {folder.name} {_words(spec)}",
        )
        try:
            result, best = search(config, space, spec, folder, commands)
        except KeyboardInterrupt:
            log.warning("stopped; finished trials are saved, and the same command continues")
            raise
        write_text(path, to_toml(best.model_copy(update={"run": best.run.model_copy(update={"name": None})})))
        write_json(folder.path / "sweep.json", result.to_dict())
        with report_failures_as_warnings(folder.report):
            write_text(folder.path / "report.md", pages.sweep_markdown(result))
            write_text(folder.report, pages.sweep_html(folder.name, result))
    return result.model_copy(update={"report": str(folder.report)})


def _compared(
    config: Config,
    students: Sequence[Candidate],
    spec: CompareSpec,
    kind: Kind,
    again: Callable[[RunFolder], str],
    ray: str | None,
    more: Callable[[Trials, Comparison], Reproduction] | None = None,
) -> Comparison:
    """Run a comparison in its folder, and write and return the result.

    Args:
        config: texts, teacher, encoder.
        students: who takes part.
        spec: on how many seeds and texts.
        kind: The command.
        again: Returns the command that does the same again, in a folder.
        ray: a cluster's address, or None.
        more: what else they say of the recipe.
    """
    from qkd.experiments import compare as comparison
    from qkd.experiments.summary import summarise
    from qkd.reports import comparison as pages
    from qkd.reports.pages import report_failures_as_warnings

    _warn_of_unseen(config)
    with _study_folder(config, kind) as folder, over_ray(ray):
        write_text(folder.config, to_toml(config))
        try:
            trials = comparison.run_trials(config, students, spec, folder)
        except KeyboardInterrupt:
            log.warning("stopped; finished trials are saved, and the same command continues")
            raise
        summary = summarise(trials, again(folder))
        if more is not None:
            summary = summary.model_copy(update={"reproduction": more(trials, summary)})
        write_json(folder.path / "comparison.json", summary.to_dict())
        with report_failures_as_warnings(folder.report):
            write_text(folder.path / "report.md", pages.comparison_markdown(summary))
            write_text(folder.report, pages.comparison_html(folder.name, summary))
    return summary.model_copy(update={"report": str(folder.report)})


def _study_folder(config: Config, kind: Kind) -> AbstractContextManager[RunFolder]:
    """Return the locked folder of a study; an existing one must have the same settings."""

    def same(path: Path) -> bool:
        return read_config(path).model_copy(update={"run": config.run}) == config

    return study_run(config.run.runs, config.run.name, kind, config.data.stem, same)


def _warn_of_unseen(config: Config) -> None:
    """Say which settings of a run a study does not look at."""
    if config.engine.sim != "exact":
        log.warning("--sim has no effect here: circuits are trained without noise; --sims of a comparison changes that")
    if config.encoder.tune_encoder:
        log.warning("--tune-encoder applies to transformer: students only; all others are trained on fixed embeddings")


def _base(base: str | Path | Config | None) -> Config:
    """Return the configuration that a comparison starts from; a run's name is not taken over."""
    if base is None or isinstance(base, Config):
        return base or Config()
    path = Path(base)
    config = read_config(path if path.is_file() else existing_run(path).config)
    return config.model_copy(update={"run": config.run.model_copy(update={"name": None})})


def _words(spec: CompareSpec | SweepSpec) -> str:
    """Return a spec as command-line options."""
    return _typed({key: value for key, value in dict(spec).items() if value != ()})


def _typed(values: Mapping[str, Any]) -> str:
    """Return options as a shell takes them."""
    words = []
    for key, value in values.items():
        option = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            words.append(option if value else f"--no-{option[2:]}")
        elif key == "over":
            words += [f"{option} {shlex.quote(str(element))}" for element in value]
        else:
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            words.append(f"{option} {shlex.quote(text)}")
    return " ".join(words)
