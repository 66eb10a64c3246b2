"""A mitigation method of another package: values are scaled back by the decay that the calibration predicts."""

import numpy as np

from qkd.hardware.mitigation import Corrected, Method
from qkd.hardware.mitigation.base import fit_lines


class Rescaled(Method):
    """Measured values divided by the slope of predicted on exact values."""

    name = "rescaled"
    description = "Values divided by the predicted decay."
    twirls_gates = True

    def combine(self, measurements, texts, exact, predicted, count):
        _, slope = fit_lines(exact, predicted)
        return Corrected(measurements.evs[texts] / slope, measurements.stds[texts] / np.abs(slope))

    def expect(self, exact, predicted, readout):
        _, slope = fit_lines(exact, predicted)
        return exact, (1 - predicted**2) / slope**2
