"""The functions for notebooks: ``distill`` makes a run, ``evaluate`` and ``predict`` use it, ``teach`` labels texts.

They are thin: they take paths, names and tables, and call the packages that take objects and arrays.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, Unpack

from qkd.core.arguments import public
from qkd.core.callbacks import calling, tracking
from qkd.core.config import Config, DataSpec, fields, read_config, to_toml
from qkd.core.console import log
from qkd.core.errors import ConfigError, DataError, FolderError, nearest
from qkd.core.files import write_text
from qkd.core.options import ConfigOptions
from qkd.core.runs import RunFolder, existing_run, named_run, new_run, newest_run
from qkd.opened import Run, open_student
from qkd.pipeline.given import storable, stored_data
from qkd.pipeline.settings import Overrides, by_section, check_options, merged, settled, with_pinned_models
from qkd.results import Evaluation, Labeling, Prediction

if TYPE_CHECKING:
    import numpy as np

    from qkd.data.dataset import Dataset
    from qkd.student.bundle import Student


@public
def distill(
    config: Config | None = None,
    *,
    resume: bool = False,
    callbacks: Sequence[Any] = (),
    quiet: bool = False,
    **options: Unpack[ConfigOptions],
) -> Run:
    """Distill a teacher into a quantum student and return the run.

    Args:
        config: the configuration; the defaults if None.
        resume: continue an existing run (``options["name"]``, else the one started last) from its checkpoint. Only
            ``epochs`` and ``patience`` may differ from its configuration.
        callbacks: objects with ``on_stage``, ``on_epoch`` or ``on_job``; see ``qkd.Callback``.
        quiet: print warnings only.
        options: single settings by their CLI names with underscores (``data="texts.csv"``, ``epochs=20``); they
            override ``config``. ``data``, ``teacher``, ``encoder``, ``circuit`` and ``loss`` may be objects, too.

    Raises:
        QkdError: something in the configuration, the data, the teacher or the folder does not fit.
        KeyboardInterrupt: the user interrupted it; the run folder has a valid student of the completed epochs.
    """
    if resume:
        return _resume(config, callbacks, options)
    if config is None and options.get("continue_from") is not None:
        config = _continued(options)
    base = config or Config()
    with storable(options, base) as values:
        overrides = by_section(values)
        config = merged(base, overrides)
        check_options(config, overrides)
        stem = f"{config.data.stem}-{Path(config.student.circuit).stem}"
        with new_run(config.run.runs, config.run.name, stem) as folder:
            try:
                return _distill(with_pinned_models(config), folder, callbacks, resume=False)
            except Exception:
                if not any(path.exists() for path in (folder.checkpoint, folder.teacher)):
                    shutil.rmtree(folder.path, ignore_errors=True)  # its files took no time
                raise


def _resume(config: Config | None, callbacks: Sequence[Any], options: Mapping[str, Any]) -> Run:
    """Continue the run that the options name, or the one started last."""
    base = config or Config()
    run = merged(base, by_section({key: options[key] for key in ("runs", "name") if key in options})).run
    folder = newest_run(run.runs) if run.name is None else named_run(run.runs, run.name)
    with folder.lock():
        before = read_config(folder.config)
        with storable(options, base.model_copy(update={"run": run}), before) as values:
            return _distill(_resumable(folder, config, by_section(values)), folder, callbacks, resume=True)


def _continued(options: Mapping[str, Any]) -> Config:
    """Return the configuration of the run whose student is trained further, in a new folder.

    New texts keep its columns alone; without new texts it has the texts of that run.

    Raises:
        QkdError: there is no such run.
    """
    before = read_config(existing_run(Path(str(options["continue_from"]))).config)
    data = before.data
    if options.get("data") is not None:
        data = DataSpec(text_column=data.text_column, label_column=data.label_column)
    return before.model_copy(update={"data": data, "run": Config().run})


def _distill(config: Config, folder: RunFolder, callbacks: Sequence[Any], resume: bool) -> Run:
    """Run the pipeline in a locked folder, make this the latest run and return it."""
    from qkd.pipeline import distillation as pipeline

    try:
        write_text(folder.config, to_toml(config))
        settings = {key: getattr(getattr(config, section), key) for section, key, _ in fields()}
        with calling(callbacks), tracking(config.run.track, folder.path, settings):
            pipeline.run_pipeline(config, folder, resume)
    except KeyboardInterrupt:
        log.warning(f"interrupted; finished work is kept, continue with 'qkd distill --resume --name {folder.name}'")
        raise
    folder.make_latest()
    return Run(folder.path)


@public
def teach(
    out: str | Path,
    config: Config | None = None,
    *,
    ray: str | None = None,
    embed: bool = False,
    quiet: bool = False,
    **options: Unpack[ConfigOptions],
) -> Labeling:
    """Label a corpus with a teacher, and write its logits to a Parquet file that ``logits:FILE`` reads.

    Args:
        out: the file; a column ``text`` and one column of float32 logits for each class.
        config: data and teacher; the defaults if None.
        ray: the address of a Ray cluster that does the work, or ``local``.
        embed: whether the encoder embeds the texts, too, so that ``distill`` finds both in the cache.
        quiet: print warnings only.
        options: single settings by their CLI names with underscores; they override ``config``.

    Raises:
        QkdError: data or teacher do not fit, or the file cannot be written.
    """
    from qkd.core.cluster import over_ray
    from qkd.simulation.factory import torch_device
    from qkd.teachers import labeling

    with TemporaryDirectory() as folder, storable({"runs": folder, **options}, config or Config()) as values:
        config = settled(config or Config(), values)
        with over_ray(ray):
            return labeling.label(config, Path(out), str(torch_device(config.engine.torch_device)), embed)


@public
def estimate_cost(config: Config | None = None, *, quiet: bool = False, **options: Unpack[ConfigOptions]) -> str:
    """Return a sentence about the tokens and the cost of labeling with an ``api:`` teacher; no server is asked.

    Args:
        config: data and teacher; the defaults when left out.
        quiet: print warnings only.
        options: single settings by their CLI names with underscores; they override ``config``.

    Raises:
        QkdError: the data do not fit, or the teacher is not ``api:``.
    """
    from qkd.teachers.api.teacher import ApiTeacher
    from qkd.teachers.labeling import load_corpus
    from qkd.teachers.registry import make_teacher

    config = settled(config or Config(), options)
    teacher = make_teacher(config.teacher.teacher, config=config)
    if not isinstance(teacher, ApiTeacher):
        raise ConfigError(f"{teacher.name} costs no money: --dry-run estimates api: teachers")
    corpus = load_corpus(config)
    return teacher.estimate(corpus.texts, corpus.dataset.classes)


def _resumable(folder: RunFolder, config: Config | None, overrides: Overrides) -> Config:
    """Return the configuration of a started run with the new number of epochs and patience.

    Raises:
        QkdError: another setting differs from the run's configuration.
    """
    before = read_config(folder.config)
    base = before if config is None else config.model_copy(update={"run": before.run})
    wanted = with_pinned_models(merged(base, {key: value for key, value in overrides.items() if key[0] != "run"}))
    for section, key, _ in fields():
        old, new = (getattr(getattr(config, section), key) for config in (before, wanted))
        if old != new and key not in ("epochs", "patience") and (key, new) != ("api_source", "auto"):
            raise ConfigError(
                f"--resume continues {folder.config}, where {section}.{key} is {old!r}, not {new!r}; only --epochs "
                "and --patience may change, so start a new run"
            )
    return wanted


@public
def evaluate(
    run: str | Path | Run | Student = "runs/latest",
    data: Any = None,
    text_column: str | None = None,
    label_column: str | None = None,
    quiet: bool = False,
) -> Evaluation:
    """Score a student on labeled texts.

    ::

        evaluation = qkd.evaluate(run, data=table)
        evaluation.plot_confusion()
        evaluation.to_frame("texts").to_csv("predictions.csv")

    Args:
        run: a run, a student, a run or bundle folder, or the name of a run.
        data: labeled texts, a name or an object as for ``distill``; the run's own test split if None.
        text_column: the column of the texts; the one that the run was trained with if None.
        label_column: the column of the labels; the one that the run was trained with if None.
        quiet: print warnings only.

    Raises:
        QkdError: no such run, no such column, or the data have a label that is none of the student's classes.
    """
    import numpy as np

    from qkd.data.hashes import text_hashes
    from qkd.student.metrics import evaluate_student

    student, opened = open_student(run)
    if data is None:
        if opened is None:
            raise DataError("a bundle contains no test texts; give labeled texts with data")
        rows = opened.predictions
        texts, labels = [row.text for row in rows], [row.label for row in rows]
        source = f"the test split of {opened.name}"
        return evaluate_student(student, texts, labels, source, np.array([row.teacher for row in rows]))
    own = opened.config.data if opened else DataSpec()
    dataset = _labeled_texts(student, data, text_column or own.text_column, label_column or own.label_column)
    for label in dataset.classes:
        if label not in student.classes:
            raise DataError(f"{dataset.source}: the student knows no label '{label}'{nearest(label, student.classes)}")
    for note in dataset.notes:
        log.info(note)
    if known := int(np.isin(text_hashes(dataset.texts), student.hashes.get("train", ())).sum()):
        log.warning(
            f"{known:,} of {len(dataset.texts):,} texts are training texts of this student, so scores are too good"
        )
    return evaluate_student(student, dataset.texts, dataset.labels, dataset.source)


def _labeled_texts(student: Student, data: Any, text_column: str, label_column: str) -> Dataset:
    """Return labeled texts, or features for a student of features; objects pass the same checks as files."""
    from qkd.data.loading import load_dataset

    if isinstance(data, str | Path):
        return load_dataset(str(data), text_column, label_column)
    named = {"data": data, "text_column": text_column, "label_column": label_column}
    with TemporaryDirectory() as folder:
        stored = stored_data(named, Config(), Path(folder))
        if "encoder" in stored:
            _check_reads_features(student)
        return replace(load_dataset(stored["data"], text_column, label_column), source="the given table")


def _check_reads_features(student: Student) -> None:
    """Refuse features for a student of texts.

    Raises:
        DataError: the student was trained on texts.
    """
    if not student.encoder.name.startswith("features:"):
        raise DataError(f"the student reads texts with the encoder '{student.encoder.name}'; give texts, not features")


@public
def predict(
    texts: str | Sequence[str] | np.ndarray = (),
    file: str | Path | None = None,
    text_column: str | None = None,
    run: str | Path | Run | Student = "runs/latest",
    defer: float | Literal["teacher"] | None = None,
    ask_teacher: bool = False,
    quiet: bool = False,
) -> list[Prediction]:
    """Classify texts with a run's student.

    Args:
        texts: one text or several, or features (N,D).
        file: more texts: a table with a ``text_column``, or a ``.txt`` file with one text a line.
        text_column: the column of the file with the texts; the one that the run was trained with if None.
        run: a run, a student, a run or bundle folder, or the name of a run.
        defer: the largest error rate among answered texts, or ``teacher`` for the teacher's; the student defers texts
            of which it is less sure.
        ask_teacher: whether the teacher of the run answers the deferred texts.
        quiet: print warnings only.

    Returns:
        One prediction for each text, in order.

    Raises:
        QkdError: there are no texts, or there is no student.
    """
    from qkd.data.dataset import validate_texts
    from qkd.data.features import to_texts
    from qkd.data.loading import load_texts

    given: Any = [texts] if isinstance(texts, str) else texts
    features = getattr(given, "ndim", 1) == 2
    inputs = to_texts(given) if features else validate_texts(given)
    if not inputs and not file:
        raise DataError("no texts to classify: give them as arguments or with --file")
    student, opened = open_student(run)
    own = opened.config.data if opened else DataSpec()
    inputs += load_texts(Path(file), text_column or own.text_column) if file else ()
    if features:
        _check_reads_features(student)
    more: dict[str, list[Any]] = {}
    if defer is None and not ask_teacher:
        rows = student.predict_proba(inputs)
    else:
        rows, more = _deferred(student, opened, inputs, None if defer == "teacher" else defer, ask_teacher)
    return [
        Prediction(
            text=text,
            label=student.classes[row.argmax()],
            probability=float(row.max()),
            probabilities=dict(zip(student.classes, row.tolist(), strict=True)),
            **{name: values[number] for name, values in more.items()},
        )
        for number, (text, row) in enumerate(zip(inputs, rows, strict=True))
    ]


def _deferred(
    student: Student, run: Run | None, texts: list[str], risk: float | None, ask_teacher: bool
) -> tuple[np.ndarray, dict[str, list[Any]]]:
    """Return probabilities (N,C), and for each text whether it was deferred and, with a teacher, who answered it."""
    from qkd.pipeline.inputs import ask_run_teacher

    if ask_teacher and run is None:
        raise FolderError("a bundle has no teacher; name the run that trained it")
    ask = ask_run_teacher(run.folder, student.classes) if ask_teacher and run else None
    answers = student.defer(texts, risk, ask=ask)
    log.info(answers.deferral.describe())
    more: dict[str, list[Any]] = {"deferred": (~answers.answered).tolist()}
    return answers.probabilities, {**more, "answered_by": list(answers.answered_by)} if ask_teacher else more
