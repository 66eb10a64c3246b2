"""Five hundred random model folders: families, padding, faults and dtypes."""

import os
import shutil

import numpy as np
import pytest

from tests.models.conftest import DECODERS, FAMILIES, FAULTS, check_family


@pytest.mark.faults
def test_no_folder_gives_other_numbers_than_transformers(tmp_path):
    rng = np.random.default_rng(23)
    wrong = []
    for seed in range(int(500 * float(os.environ.get("QKD_FAULTS", "1")))):
        family = str(rng.choice(list(FAMILIES)))
        kinds = ["encoder", "classifier", "lm"] if family in DECODERS else ["encoder", "classifier"]
        kind = str(rng.choice(kinds))
        fault = str(rng.choice(FAULTS)) if rng.random() < 0.4 else None
        if (kind, fault) == ("encoder", "headless"):
            fault = None
        options = {
            "pad": rng.choice([None, "<pad>", "!"]),
            "config_pad": rng.choice([None, 0, 1, 296]) if family in DECODERS else None,
            "dtype": str(rng.choice(["float32", "float16", "bfloat16"])),
            "fault": fault,
        }
        passed = check_family(tmp_path / "model", family, kind, seed, **options)
        if passed != (fault is None):
            wrong.append((seed, family, kind, options))
        shutil.rmtree(tmp_path / "model")
    assert wrong == []
