"""The configuration of a run: single settings on top of a file, and models pinned to their present commit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from qkd.core.config import Config, fields, make_config
from qkd.core.errors import ConfigError, nearest
from qkd.core.objects import is_object

Options = Mapping[str, Any]
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
    """Store folders by absolute path and hub models with their commit; go offline first if that is requested.

    Raises:
        QkdError: the hub, or offline its cache, does not have a model.
    """
    from qkd.encoders.registry import map_models
    from qkd.models import weights

    if config.models.offline:
        weights.go_offline()

    def stored(spec: str) -> str:
        kind, colon, model = spec.partition(":")
        return spec if kind in ("api", "logits", "features", "object") else f"{kind}{colon}{weights.stored_name(model)}"

    values = config.model_dump()
    values["teacher"]["teacher"] = stored(config.teacher.teacher)
    values["encoder"]["encoder"] = map_models(config.encoder.encoder, weights.stored_name)
    return make_config(values)


def by_section(options: Options) -> Overrides:
    """Return ``{(section, key): value}`` of options by their CLI names (underscores for hyphens).

    Raises:
        QkdError: an option does not exist.
    """
    known = {key: (section, key) for section, key, _ in fields()}
    for option in options:
        if option not in known:
            raise ConfigError(f"there is no option '{option}'{nearest(option, known)}")
    return {known[option]: _plain(option, value) for option, value in options.items()}


def _plain(option: str, value: object) -> object:
    """Return a value that a configuration file can hold: a backend becomes the file of its snapshot."""
    if option == "device" and not isinstance(value, str):
        from qkd.devices.snapshot import device_file

        return str(device_file(value))
    return value


def check_options(config: Config, overrides: Overrides) -> None:
    """Refuse options that contradict others: those about a device in a run without noise, and an object to be copied.

    Raises:
        ConfigError: there is one.
    """
    if config.run.bundle_encoder and is_object(config.encoder.encoder):
        raise ConfigError("the encoder is a Python object, which no bundle contains; omit bundle_encoder")
    unseen = [key for section, key in overrides if section == "device"]
    if unseen and config.engine.sim != "aer-noisy":
        option = unseen[0].replace("_", "-")
        raise ConfigError(
            f"--{option} selects the noise of training, but --sim {config.engine.sim} has none; add --sim aer-noisy"
        )


def merged(config: Config, overrides: Overrides) -> Config:
    """Return ``config`` with ``{(section, key): value}`` on top.

    Raises:
        ConfigError: a value does not fit.
    """
    values = config.model_dump()
    for (section, key), value in overrides.items():
        values[section][key] = value
    return make_config(values)


def as_options(values: Mapping[str, Any]) -> str:
    """Return values by name as command-line options."""
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


def command(config: Config) -> str:
    """Return the command that makes a student again, without folders of runs and addresses of servers."""
    default, changed = Config(), {}
    for section, key, _ in fields():
        value = getattr(getattr(config, section), key)
        if section not in ("run", "api") and value != getattr(getattr(default, section), key):
            changed[key] = value
    return f"qkd distill {as_options(changed)}".strip()
