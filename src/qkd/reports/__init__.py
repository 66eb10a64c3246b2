"""What people read of a run: tables, pictures, the page.

::

    qkd.reports.plots.learning(run.history, best_epoch=20)
    print(qkd.reports.aligned([("name", "value"), ("accuracy", "0.84")]))

================== ===================================================================================================
`plots`            pictures: learning, accuracies, confusion, reliability, agreement, scatter
`aligned`          rows of cells as a table of text
`table`            teacher, student and controls of a run's metrics side by side
`device_table`     device runs side by side
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.reports import plots
    from qkd.reports.devices import device_table
    from qkd.reports.run import run_table as table
    from qkd.reports.tables import aligned

__all__ = ["aligned", "device_table", "plots", "table"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "aligned": "qkd.reports.tables",
        "device_table": "qkd.reports.devices",
        "plots": "qkd.reports.plots",
        "table": "qkd.reports.run:run_table",
    },
)
