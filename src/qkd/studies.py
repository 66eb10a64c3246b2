"""Several runs side by side: ``compare``, ``reproduce`` and ``sweep``, thin functions for notebooks and the CLI."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from qkd.core.arguments import public
from qkd.core.cluster import over_ray
from qkd.core.config import Config, read_config, to_toml
from qkd.core.console import log
from qkd.core.errors import QkdError
from qkd.core.files import write_json, write_text
from qkd.core.options import ConfigOptions
from qkd.core.runs import Kind, RunFolder, existing_run, study_run
from qkd.experiments.specs import CompareSpec, SweepSpec
from qkd.pipeline.given import storable
from qkd.pipeline.settings import as_options, by_section, settled

if TYPE_CHECKING:
    from qkd.experiments.candidates import Candidate
    from qkd.experiments.compare import Trials
    from qkd.results import Comparison, Reproduction, Sweep


@public
def compare(
    base: str | Path | Config | None = None,
    spec: CompareSpec | None = None,
    *,
    ray: str | None = None,
    quiet: bool = False,
    **options: Unpack[ConfigOptions],
) -> Comparison:
    """Train several students over several seeds on the same texts, and compare the others with the first.

    An existing comparison of the same name is continued: its finished trials are not repeated.

    Args:
        base: a run folder, a configuration or its file, with texts, teacher and student; the defaults if None.
        spec: students, seeds, numbers of texts and simulators.
        ray: the address of a Ray cluster that runs the trials, or ``local``.
        quiet: print warnings only.
        options: single settings by their CLI names with underscores; they override ``base``.

    Returns:
        The content of ``comparison.json``; ``report.html`` and ``report.md`` show the same.

    Raises:
        QkdError: configuration, data, teacher or students do not fit.
        KeyboardInterrupt: the comparison was interrupted; the same call continues it.
    """
    from qkd.experiments.candidates import make_candidates

    spec = spec or CompareSpec()
    config = _base(base)

    def again(folder: RunFolder) -> str:
        return f"qkd compare {shlex.quote(str(folder.config))} --name {folder.name} {_words(spec)}"

    with storable(options, config) as values:
        config = settled(config, values)
        return _compare(config, make_candidates(spec.students, config), spec, "compare", again, ray)


@public
def reproduce(
    recipe: str = "qdllm",
    base: Config | None = None,
    *,
    seeds: int = 10,
    students: Sequence[str] = ("hardware", "linear", "logreg"),
    deviations: Sequence[str] = ("padding", "js", "carried"),
    tune: int = 0,
    ray: str | None = None,
    quiet: bool = False,
    **options: Unpack[ConfigOptions],
) -> Comparison:
    """Run the paper's recipe, the recipe with each deviation of the authors' public code, and other students.

    Args:
        recipe: ``qdllm``, the only recipe.
        base: texts, teacher and encoder; the defaults, and the recipe's encoder, if None.
        seeds: number of trainings of each student.
        students: other students by the names of ``compare``, with the default encoder.
        deviations: names in ``experiments.reproduction.DEVIATIONS``.
        tune: number of settings that the other students and a second, tuned recipe try; see ``CompareSpec``.
        ray: the address of a Ray cluster that runs the trials, or ``local``.
        quiet: print warnings only.
        options: single settings by their CLI names with underscores; they override the recipe.

    Returns:
        The content of ``comparison.json``: that of ``compare``, and ``reproduction``.

    Raises:
        QkdError: there is no such recipe, or something does not fit.
        KeyboardInterrupt: the reproduction was interrupted; the same call continues it.
    """
    from qkd.experiments.candidates import RECIPE, RECIPE_SECTIONS, recipe_file
    from qkd.experiments.reproduction import reproduction_of, variants

    if recipe != RECIPE:
        raise QkdError(f"there is no recipe '{recipe}'; the only recipe is {RECIPE}")
    base = base or Config(encoder=read_config(recipe_file()).encoder)
    with storable(options, base) as values:
        overrides = by_section(values)
        config = settled(base, values)
        recipe_overrides = {key: value for key, value in overrides.items() if key[0] in RECIPE_SECTIONS}
        versions = variants(config, recipe_overrides, students, deviations, tune > 1)
        spec = CompareSpec(students=tuple(version.name for version in versions), seeds=seeds, tune=tune)
        arguments = {"seeds": seeds, "students": students, "deviations": deviations or "none", "tune": tune}
        arguments |= {key: value for (_, key), value in recipe_overrides.items()}

        def again(folder: RunFolder) -> str:
            words = as_options({"name": folder.name, **arguments})
            return f"qkd reproduce {recipe} --config {shlex.quote(str(folder.config))} {words}"

        return _compare(config, versions, spec, "reproduce", again, ray, reproduction_of)


@public
def sweep(
    base: str | Path | Config | None = None,
    spec: SweepSpec | None = None,
    *,
    ray: str | None = None,
    quiet: bool = False,
    **options: Unpack[ConfigOptions],
) -> Sweep:
    """Search settings of the student by the validation texts, and judge the best trial on the test texts.

    An existing sweep of the same name is continued: its finished trials are not repeated.

    Args:
        base: a run folder, a configuration or its file: settings that are not searched, and the start of the search.
        spec: the search space and the number of trials.
        ray: the address of a Ray cluster that runs the trials, or ``local``.
        quiet: print warnings only.
        options: single settings by their CLI names with underscores; they override ``base``.

    Returns:
        The content of ``sweep.json``. ``report.html`` and ``report.md`` show the same; ``best.toml`` is the
        configuration of the best trial.

    Raises:
        QkdError: configuration, data, teacher or the search space do not fit.
        KeyboardInterrupt: the sweep was interrupted; the same call continues it.
    """
    from qkd.experiments.space import dimensions
    from qkd.experiments.sweep import search
    from qkd.reports.pages import report_failures_as_warnings
    from qkd.reports.sweep import report as sweep_report

    spec = spec or SweepSpec()
    config = _base(base)
    with ExitStack() as stack:
        config = settled(config, stack.enter_context(storable(options, config)))
        space = dimensions(spec.over, config)
        folder = stack.enter_context(_study(config, "sweep", ray))
        path = folder.path / "best.toml"
        result, best = search(config, space, spec, folder)
        commands = {
            "command": f"qkd distill --config {shlex.quote(str(path))}",
            "again": f"qkd sweep {shlex.quote(str(folder.config))} --name {folder.name} {_words(spec)}",
        }
        result = result.model_copy(update=commands)
        write_text(path, to_toml(best.model_copy(update={"run": best.run.model_copy(update={"name": None})})))
        write_json(folder.path / "sweep.json", result.to_dict())
        with report_failures_as_warnings(folder.report):
            sweep_report(result, folder.name).write(folder)
    return result.model_copy(update={"report": str(folder.report)})


def _compare(
    config: Config,
    students: Sequence[Candidate],
    spec: CompareSpec,
    kind: Kind,
    again: Callable[[RunFolder], str],
    ray: str | None,
    reproduction: Callable[[Trials, Comparison], Reproduction] | None = None,
) -> Comparison:
    """Run a comparison in a folder of its own, and write and return its result.

    Args:
        config: texts, teacher and encoder.
        students: the students.
        spec: seeds, numbers of texts and simulators.
        kind: the command.
        again: returns the command that repeats the comparison in a folder.
        ray: a cluster's address, or None.
        reproduction: returns the part that only a reproduction has.
    """
    from qkd.experiments.compare import run_trials
    from qkd.experiments.summary import summarize
    from qkd.reports.comparison import report
    from qkd.reports.pages import report_failures_as_warnings

    with _study(config, kind, ray) as folder:
        trials = run_trials(config, students, spec, folder)
        summary = summarize(trials, again(folder))
        if reproduction is not None:
            summary = summary.model_copy(update={"reproduction": reproduction(trials, summary)})
        write_json(folder.path / "comparison.json", summary.to_dict())
        with report_failures_as_warnings(folder.report):
            report(summary, folder.name).write(folder)
    return summary.model_copy(update={"report": str(folder.report)})


@contextmanager
def _study(config: Config, kind: Kind, ray: str | None) -> Iterator[RunFolder]:
    """Yield the locked folder of a study with its configuration; an existing folder must have the same settings."""
    if config.engine.sim != "exact":
        log.warning("--sim is ignored: circuits are trained ideally, unless a comparison's --sims says otherwise")
    if config.encoder.tune_encoder:
        log.warning("--tune-encoder is for transformer: students; all others are trained on fixed embeddings")

    def same(path: Path) -> bool:
        return read_config(path).model_copy(update={"run": config.run}) == config

    with study_run(config.run.runs, config.run.name, kind, config.data.stem, same) as folder, over_ray(ray):
        write_text(folder.config, to_toml(config))
        try:
            yield folder
        except KeyboardInterrupt:
            log.warning("interrupted; finished trials are kept, and the same command continues")
            raise


def _base(base: str | Path | Config | None) -> Config:
    """Return the configuration of a run, a file or an object, without a run's name."""
    if base is None or isinstance(base, Config):
        return base or Config()
    path = Path(base)
    config = read_config(path if path.is_file() else existing_run(path).config)
    return config.model_copy(update={"run": config.run.model_copy(update={"name": None})})


def _words(spec: CompareSpec | SweepSpec) -> str:
    """Return a spec as command-line options."""
    return as_options({key: value for key, value in dict(spec).items() if value != ()})
