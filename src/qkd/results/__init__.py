"""Results of runs as types. qkd stores their fields, and ``to_dict`` returns them.

::

    run.metrics.lines["student"].numbers.accuracy.low
    [outcome.result.rms.value for outcome in qkd.run_hardware(device="ibm_fez", local=True)]

=================== ==================================================================================================
`Metrics`           a run: ``metrics.json``; `ModelResult` is one of its lines, `Diagnosis` the student's shortfall
`TestPrediction`    a row of ``predictions.jsonl``
`Prediction`        the result of ``qkd.predict`` for each text
`Evaluation`        the result of ``qkd.evaluate``
`Cascade`           a student with its teacher behind it; `Deferral` is its threshold, `RiskCoverage` its curve
`Labeling`          the result of ``qkd.teach``
`Comparison`        the result of ``qkd.compare``: ``comparison.json``; `StudentResult` is one of its students
`Reproduction`      the part of a comparison that ``qkd.reproduce`` adds
`Sweep`             the result of ``qkd.sweep``: ``sweep.json``; `SweepTrial` is one of its trials
`DeviceResult`      a device run: ``result.json``; `MeasuredResult` with each `MeasuredText`, `LearnedResult` of
                    ``qkd devices learn``
`Fitness`           a result of ``qkd.hardware.rank_devices``; `DeviceNumbers` describes a device
`Estimate`          a number with its 95 % interval; `PairedDifference` is a difference with its verdict
`Scores`            accuracy, macro-F1, calibration error and agreement
`Parameters`        numbers of parameters
`TeacherCard`       a teacher's description
`EndpointUse`       source, server, tokens and cost of an ``api:`` teacher
`Result`            the base class
=================== ==================================================================================================

Types of smaller parts are in ``results.run``, ``results.teacher``, ``results.device`` and ``results.study``.
"""

from qkd.results.base import Estimate, ModelResult, PairedDifference, Parameters, Result, Scores
from qkd.results.cascade import Cascade, Deferral, RiskCoverage
from qkd.results.device import (
    DeviceNumbers,
    DeviceResult,
    Fitness,
    LearnedResult,
    MeasuredResult,
    MeasuredText,
)
from qkd.results.evaluation import Evaluation
from qkd.results.run import Diagnosis, Metrics, Prediction, TestPrediction
from qkd.results.study import Comparison, Reproduction, StudentResult, Sweep, SweepTrial
from qkd.results.teacher import EndpointUse, Labeling, TeacherCard

__all__ = [
    "Cascade",
    "Comparison",
    "Deferral",
    "DeviceNumbers",
    "DeviceResult",
    "Diagnosis",
    "EndpointUse",
    "Estimate",
    "Evaluation",
    "Fitness",
    "Labeling",
    "LearnedResult",
    "MeasuredResult",
    "MeasuredText",
    "Metrics",
    "ModelResult",
    "PairedDifference",
    "Parameters",
    "Prediction",
    "Reproduction",
    "Result",
    "RiskCoverage",
    "Scores",
    "StudentResult",
    "Sweep",
    "SweepTrial",
    "TeacherCard",
    "TestPrediction",
]
