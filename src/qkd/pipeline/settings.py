"""What a run is done with: a configuration, single settings on top, and models pinned to what they are now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qkd.core.config import Config, fields, make_config
from qkd.core.errors import ConfigError, nearest

Options = Mapping[str, object]
"""Single settings by their CLI names, underscores for hyphens."""
Overrides = Mapping[tuple[str, str], object]
"""Single settings by section and key."""


def settled(config: Config, options: Options) -> Config:
    """Return ``config`` with single settings by their CLI names on top, its models pinned.

    Raises:
        QkdError: an option does not exist or does not fit, or the hub does not have a model.
    """
    return with_pinned_models(merged(config, by_section(options)))


def with_pinned_models(config: Config) -> Config:
    """Go offline if asked to, and pin what comes from the hub to its commit, before anything heavy is imported.

    Raises:
        QkdError: the hub, or offline its cache, does not have a model.
    """
    from qkd.models import weights

    if config.models.offline:
        weights.go_offline()

    def with_commit(name: str) -> str:
        """Pin what stands between ``KIND:`` and ``?OPTIONS``, if it is a hub id."""
        kind, colon, rest = name.rpartition(":")
        model, mark, query = rest.partition("?")
        local = kind == "logits" or not weights.is_hub_id(model)
        return name if local else f"{kind}{colon}{weights.pinned_name(model)}{mark}{query}"

    values = config.model_dump()
    values["teacher"]["teacher"] = tuple(with_commit(spec) for spec in config.teacher.teacher)
    if not Path(name := config.encoder.encoder).is_dir():
        values["encoder"]["encoder"] = "+".join(with_commit(part) for part in name.split("+"))
    return make_config(values, "the options")


def by_section(options: Options) -> Overrides:
    """Return ``{(section, key): value}`` of options by their CLI names (underscores for hyphens).

    Raises:
        QkdError: an option does not exist.
    """
    known = {key: (section, key) for section, key, _ in fields()}
    for option in options:
        if option not in known:
            raise ConfigError(f"there is no option '{option}'{nearest(option, known)}")
        if hasattr(options[option], "to_csv"):
            raise ConfigError(f"{option} is a table; write it to a file, {option}='texts.csv', with its to_csv")
    return {known[option]: value for option, value in options.items()}


def check_device(config: Config, overrides: Overrides) -> None:
    """Refuse options about a device in a run that would not look at them.

    Raises:
        ConfigError: there is one.
    """
    unseen = [key for section, key in overrides if section == "device"]
    if unseen and config.engine.sim != "aer-noisy":
        option = unseen[0].replace("_", "-")
        raise ConfigError(
            f"--{option} says whose noise is trained under, and --sim {config.engine.sim} has none: add --sim aer-noisy"
        )


def merged(config: Config, overrides: Overrides) -> Config:
    """Return ``config`` with ``{(section, key): value}`` on top.

    Raises:
        ConfigError: a value does not fit.
    """
    values = config.model_dump()
    for (section, key), value in overrides.items():
        values[section][key] = value
    return make_config(values, "the options")
