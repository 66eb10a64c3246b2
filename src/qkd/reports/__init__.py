"""Reports: tables, pictures and pages.

::

    qkd.reports.plots.learning(run.history, best_epoch=20)
    print(qkd.reports.aligned([("name", "value"), ("accuracy", "0.84")]))

================== ===================================================================================================
`plots`            pictures: learning, accuracies, confusion, reliability, agreement, scatter
`aligned`          rows of cells as text
`table`            the results of teacher, student and controls
`device_table`     the results of device runs
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    import qkd.reports.plots as plots
    from qkd.reports.devices import device_table
    from qkd.reports.run import results_table as table
    from qkd.reports.tables import aligned

__all__ = ["aligned", "device_table", "plots", "table"]

__getattr__, __dir__ = exports(__name__)
