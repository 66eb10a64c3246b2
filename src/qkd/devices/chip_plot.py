"""Maps of a chip, colored by readout and two-qubit errors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from qkd.devices.snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = "viridis_r"  # light is good, dark is bad
MARK = "#e11d48"


def positions(snapshot: Snapshot) -> np.ndarray:
    """Return the column and row of the n qubits, (n,2). Without coordinates a spring layout of the couplers decides."""
    coordinates = snapshot.calibration.coordinates
    if coordinates is not None:
        return np.array(coordinates, dtype=float)
    import rustworkx

    graph = rustworkx.PyGraph()
    graph.add_nodes_from(range(snapshot.num_qubits))
    graph.add_edges_from_no_data([(a, b) for a, b in snapshot.calibration.couplers()])
    places = rustworkx.spring_layout(graph, num_iter=500, seed=1)
    return np.array([places[i] for i in range(snapshot.num_qubits)]) * math.sqrt(snapshot.num_qubits)


def figure(snapshot: Snapshot, region: Iterable[int] = ()) -> Figure:
    """Return a figure of the chip.

    Args:
        region: Physical qubits to mark, with the couplers between them.
    """
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure

    calibration, at, marked = snapshot.calibration, positions(snapshot), set(region)
    span = np.maximum(np.ptp(at, axis=0), 1)
    drawn = Figure(figsize=(min(12.0, 2.6 + 0.52 * span[0]), min(10.0, 1.4 + 0.5 * span[1])), layout="constrained")
    axes = drawn.add_subplot()
    couplers = calibration.couplers()
    errors = np.array([done.error or np.nan for done in couplers.values()])
    readout = np.array([qubit.readout_error or np.nan for qubit in calibration.qubits])
    lines = [at[list(pair)] for pair in couplers]
    inside = [line for line, pair in zip(lines, couplers, strict=True) if set(pair) <= marked]
    axes.add_collection(LineCollection(inside, colors=MARK, linewidths=11, capstyle="round", alpha=0.35, zorder=1))
    edges = LineCollection(lines, cmap=COLORS, norm=LogNorm(*_span(errors)), linewidths=4, zorder=2)
    edges.set_array(errors)
    axes.add_collection(edges)
    colors = colormaps[COLORS].copy()
    colors.set_bad("#e5e7eb")  # qubits without calibration
    rings = [MARK if i in marked else "white" for i in range(len(at))]
    nodes = axes.scatter(
        at[:, 0],
        at[:, 1],
        c=np.ma.masked_invalid(readout),
        cmap=colors,
        norm=LogNorm(*_span(readout)),
        s=190,
        edgecolors=rings,
        linewidths=[2.4 if i in marked else 0.8 for i in range(len(at))],
        zorder=3,
        plotnonfinite=True,
    )
    center = math.sqrt(math.prod(_span(readout)))
    for i, (x, y) in enumerate(at):
        dark = np.isfinite(readout[i]) and readout[i] > center
        axes.text(x, y, str(i), size=6, ha="center", va="center", color="white" if dark else "#1f2933", zorder=4)
    axes.invert_yaxis()
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_title(f"{snapshot.name}, calibrated {calibration.date[:10]}", size=11)
    drawn.colorbar(nodes, ax=axes, shrink=0.6, pad=0.01, label="readout error")
    drawn.colorbar(edges, ax=axes, shrink=0.6, pad=0.01, label="two-qubit error")
    return drawn


def _span(errors: np.ndarray) -> tuple[float, float]:
    """Return the range of the color scale: the least error and the 90 % quantile."""
    measured = errors[np.isfinite(errors) & (errors > 0)]
    if not len(measured):
        return 1e-4, 1e-1
    low, high = float(measured.min()), float(np.quantile(measured, 0.9))
    return low, max(high, 1.01 * low)
