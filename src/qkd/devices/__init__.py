"""Devices: what they are, how good they were when they were calibrated, and what a circuit becomes on them.

::

    device = qkd.devices.load("ibm_brisbane")
    print(device.summary())
    compiled = qkd.transpile("hardware", device)
    compiled.chip()

================== ===================================================================================================
`load`             the snapshot of a device's name, or in a file
`save`             keep what a live backend reports now
`Snapshot`         a device on the day of its calibration
`find`             what is known of a device: family, qubits, retired or not
`compile_for`      what `qkd.transpile` does
`Compiled`         a student on a device: circuit, layout, figures, the few qubits used
`Profile`          how circuits are laid out, compiled and run
`load_profile`     a profile by its name or file
`noise_model`      Aer's noise model of a device or of the region a circuit uses
`to_region`        a compiled student and its device, cut to the qubits used
`Region`           those qubits, as a backend of their own
`table`            a device's errors and times, rows of cells
`hidden_device`    a device that does more than its calibration tells, drawn by a seed
`write`            a calibration as a file that every `device=` takes
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.devices.catalogue import find_device as find
    from qkd.devices.compiled import Compiled, compile_for
    from qkd.devices.hidden import hidden as hidden_device
    from qkd.devices.noise import noise_model
    from qkd.devices.numbers import rows as table
    from qkd.devices.profiles import Profile, load_profile
    from qkd.devices.region import Region, to_region
    from qkd.devices.snapshot import Snapshot
    from qkd.devices.snapshot import load_snapshot as load
    from qkd.devices.snapshot import save_snapshot as save
    from qkd.devices.snapshot import write_snapshot as write

__all__ = [
    "Compiled",
    "Profile",
    "Region",
    "Snapshot",
    "compile_for",
    "find",
    "hidden_device",
    "load",
    "load_profile",
    "noise_model",
    "save",
    "table",
    "to_region",
    "write",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Compiled": "qkd.devices.compiled",
        "Profile": "qkd.devices.profiles",
        "Region": "qkd.devices.region",
        "Snapshot": "qkd.devices.snapshot",
        "compile_for": "qkd.devices.compiled",
        "find": "qkd.devices.catalogue:find_device",
        "hidden_device": "qkd.devices.hidden:hidden",
        "load": "qkd.devices.snapshot:load_snapshot",
        "load_profile": "qkd.devices.profiles",
        "noise_model": "qkd.devices.noise",
        "save": "qkd.devices.snapshot:save_snapshot",
        "table": "qkd.devices.numbers:rows",
        "to_region": "qkd.devices.region",
        "write": "qkd.devices.snapshot:write_snapshot",
    },
)
