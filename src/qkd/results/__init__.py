"""What runs come to, as types. Fields are what is stored, and ``to_json`` gives it.

::

    run.metrics.lines["student"].numbers.accuracy.low
    [outcome.result.error.value for outcome in qkd.run_hardware(device="ibm_fez", local=True)]

================== ===================================================================================================
`Metrics`          a run: ``metrics.json``
`DeviceResult`     a device run: ``result.json``; `MeasuredResult` with texts, `LearnedResult` of ``qkd devices learn``
`Answer`           a row of ``predictions.jsonl``
`Evaluation`       what ``qkd.evaluate`` returns
`Prediction`       what ``qkd.predict`` returns for each text
`Labelling`        what ``qkd.teach`` returns
`Result`           what all of them are; `Estimate` is a number with its 95 % interval
================== ===================================================================================================

Parts of a run: Line, Scores, Parameters, Sizes, TeacherCard, EncoderCard, Tried, StudentCard, Training, Diagnosis,
Noise, Check, Tuned, Unlabeled. Of a device run: Jobs, Lost, MitigationCard, Shots, DeviceLine, MeasuredText,
Unexplained.
"""

from qkd.results.base import Estimate, Parameters, Result, Scores
from qkd.results.device import (
    DeviceLine,
    DeviceResult,
    Jobs,
    LearnedResult,
    Lost,
    MeasuredResult,
    MeasuredText,
    MitigationCard,
    Shots,
    Unexplained,
)
from qkd.results.run import (
    Answer,
    Check,
    Diagnosis,
    EncoderCard,
    Evaluation,
    Labelling,
    Line,
    Metrics,
    Noise,
    Prediction,
    Sizes,
    StudentCard,
    TeacherCard,
    Training,
    Tried,
    Tuned,
    Unlabeled,
)

__all__ = [
    "Answer",
    "Check",
    "DeviceLine",
    "DeviceResult",
    "Diagnosis",
    "EncoderCard",
    "Estimate",
    "Evaluation",
    "Jobs",
    "Labelling",
    "LearnedResult",
    "Line",
    "Lost",
    "MeasuredResult",
    "MeasuredText",
    "Metrics",
    "MitigationCard",
    "Noise",
    "Parameters",
    "Prediction",
    "Result",
    "Scores",
    "Shots",
    "Sizes",
    "StudentCard",
    "TeacherCard",
    "Training",
    "Tried",
    "Tuned",
    "Unexplained",
    "Unlabeled",
]
