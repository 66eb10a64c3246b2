"""Devices: calibrations, snapshots, layouts, transpile profiles and transpilation.

::

    device = qkd.devices.load("ibm_brisbane")
    print(device.summary())
    compiled = qkd.transpile("hardware", device)
    compiled.chip()

================== ===================================================================================================
`load`             load the snapshot of a device by name or file
`save`             write the current calibration of a backend to a file
`Snapshot`         a device with its calibration
`find`             look up family, qubits and status of a device
`compile_for`      compile a circuit for a device, as `qkd.transpile` does
`Compiled`         a compiled circuit with layout, report and region
`Profile`          settings of layout, compilation and device runs
`load_profile`     load a profile by name or file
`noise_model`      Aer's noise model of a device or a region
`to_region`        restrict a compiled circuit and its device to the qubits used
`Region`           some qubits of a device as a backend
`table`            a table of a device's errors and times
`hidden_device`    a device with random errors that its calibration omits
`write`            write a calibration to a file
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.devices.catalogue import find_device as find
    from qkd.devices.compiled import Compiled, compile_for
    from qkd.devices.numbers import rows as table
    from qkd.devices.profiles import Profile, load_profile
    from qkd.devices.random_errors import hidden as hidden_device
    from qkd.devices.region import Region, noise_model, to_region
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

__getattr__, __dir__ = exports(__name__)
