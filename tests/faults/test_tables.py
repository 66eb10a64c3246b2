"""Ten thousand random tables against what was written."""

import os

import pytest

from tests.data.conftest import check_tables


@pytest.mark.faults
def test_no_row_is_lost_or_changed_without_a_sentence(tmp_path):
    count = int(10_000 * float(os.environ.get("QKD_FAULTS", "1")))
    refused, warned = check_tables(tmp_path, range(1000, 1000 + count))
    assert refused < 0.2 * count and warned < 0.01 * count
