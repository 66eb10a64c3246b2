"""Maps of a chip for figures and terminals, colored by readout and two-qubit errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from qkd.devices.snapshot import Snapshot

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.text import Text

COLORS = "viridis_r"  # light is good, dark is bad
MARK = "#e11d48"
_TONES = ("#a3e635", "#4ade80", "#22b8a6", "#3b82c4", "#6d4fc2", "#7c2d92")  # best to worst, for terminals


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


def text(snapshot: Snapshot, region: Iterable[int] = ()) -> Text | None:
    """Return a map of the chip for a terminal, or None if the device reports no coordinates."""
    from rich.text import Text

    calibration, marked = snapshot.calibration, set(region)
    if calibration.coordinates is None:
        return None
    columns = {column: i for i, column in enumerate(sorted({column for column, _ in calibration.coordinates}))}
    rows = {row: i for i, row in enumerate(sorted({row for _, row in calibration.coordinates}))}
    at = [(4 * columns[column], 2 * rows[row]) for column, row in calibration.coordinates]
    width, height = 4 * len(columns), 2 * len(rows) - 1
    cells = [[(" ", "")] * width for _ in range(height)]
    couplers = calibration.couplers()
    worst = [done.error for done in couplers.values() if done.error]
    for (a, b), done in couplers.items():
        (x, y), (u, v) = sorted((at[a], at[b]), key=lambda point: (point[1], point[0]))
        style = _tone(done.error, worst) + (" bold" if {a, b} <= marked else "")
        if y == v:
            for column in range(min(x, u) + 1, max(x, u)):
                cells[y][column] = ("━" if {a, b} <= marked else "─", style)
        elif x == u:
            for row in range(y + 1, v):
                cells[row][x] = ("┃" if {a, b} <= marked else "│", style)
    readouts = [qubit.readout_error for qubit in calibration.qubits if qubit.readout_error]
    for i, (x, y) in enumerate(at):
        error = calibration.qubits[i].readout_error
        cells[y][x] = ("·", "dim") if error is None else ("◉" if i in marked else "●", _tone(error, readouts))
    drawn = Text(no_wrap=True)
    for line in cells:
        for character, style in line:
            drawn.append(character, style)
        drawn.append("\n")
    drawn.append("● qubit by readout error, ─ coupler by two-qubit error: ", "dim")
    for tone, word in zip((_TONES[0], _TONES[-1]), ("best", "worst"), strict=True):
        drawn.append(f"■ {word} ", tone)
    if marked:
        drawn.append(" ◉━ the circuit", "bold")
    return drawn


def _span(errors: np.ndarray) -> tuple[float, float]:
    """Return the range of the color scale: the least error and the 90 % quantile."""
    measured = errors[np.isfinite(errors) & (errors > 0)]
    if not len(measured):
        return 1e-4, 1e-1
    low, high = float(measured.min()), float(np.quantile(measured, 0.9))
    return low, max(high, 1.01 * low)


def _tone(error: float | None, among: Sequence[float]) -> str:
    """Return the color of an error by its rank among others."""
    if not error or not among:
        return "dim"
    rank = sum(other < error for other in among) / len(among)
    return _TONES[min(len(_TONES) - 1, int(rank * len(_TONES)))]
