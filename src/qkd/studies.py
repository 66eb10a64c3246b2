"""Several runs side by side, as a notebook asks for them: ``compare``.

Thin, as ``api`` is: paths and names in, plain numbers out.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from qkd import config as configs
from qkd.api import settled
from qkd.config import CompareSpec, Config
from qkd.console import warn
from qkd.runs import RunFolder, existing_run, write_json, write_text


def compare(
    base: str | Path | Config | None = None, spec: CompareSpec | None = None, *, ray: str | None = None, **options: Any
) -> dict[str, Any]:
    """Train several students over several seeds on the same texts, and say what may be concluded.

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
    from qkd.comparison import compare as comparison
    from qkd.comparison.summary import summarise
    from qkd.reports import comparison as pages

    name = config.run.name or f"compare-{_stem(config)}"
    folder = RunFolder(config.run.folder / name)
    with folder.lock(), _spread(ray):
        write_text(folder.config, configs.dumps(config))
        try:
            trials = comparison.run(config, spec, folder)
        except KeyboardInterrupt:
            warn("stopped; trials that were done are kept, the same command goes on")
            raise
        found = summarise(trials, _command("compare", folder, spec))
        write_json(folder.path / "comparison.json", found)
        write_text(folder.path / "report.md", pages.markdown(found))
        write_text(folder.report, pages.html(name, found))
    return found | {"report": str(folder.report)}


def _spread(ray: str | None) -> AbstractContextManager[None]:
    """Return the context in which trials run on a Ray cluster, or on this machine's cores."""
    if ray is None:
        return nullcontext()
    from qkd.cluster import over_ray

    return over_ray(ray)


def _base(base: str | Path | Config | None) -> Config:
    """Return the configuration that a comparison starts from; a run's name is not taken over."""
    if base is None or isinstance(base, Config):
        return base or Config()
    path = Path(base)
    config = configs.load(path if path.is_file() else existing_run(path).config)
    return config.model_copy(update={"run": config.run.model_copy(update={"name": None})})


def _stem(config: Config) -> str:
    """Return a short name of the texts."""
    return config.data.source.rpartition(":")[2].rstrip("/").rpartition("/")[2].partition(".")[0]


def _command(verb: str, folder: RunFolder, spec: CompareSpec) -> str:
    """Return the command line that does a comparison again."""
    words = [f"qkd {verb} {folder.config} --name {folder.name}"]
    for key in type(spec).model_fields:
        value = getattr(spec, key)
        words.append(f"--{key.replace('_', '-')} {','.join(map(str, value)) if isinstance(value, tuple) else value}")
    return " ".join(words)
