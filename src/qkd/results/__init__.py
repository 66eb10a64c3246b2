"""What runs come to, as types. Fields are what is stored, and ``to_json`` gives it.

::

    run.metrics.lines["student"].numbers.accuracy.low
    [outcome.result.error.value for outcome in qkd.run_hardware(device="ibm_fez", local=True)]

================== ===================================================================================================
`Metrics`          a run: ``metrics.json``
`DeviceResult`     a device run: ``result.json``; `MeasuredResult` with texts, `LearnedResult` of ``qkd devices learn``
`Fitness`, `Drift` what ``qkd.hardware.ranked`` and ``drift`` return
`Answer`           a row of ``predictions.jsonl``
`Evaluation`       what ``qkd.evaluate`` returns
`Prediction`       what ``qkd.predict`` returns for each text
`Labelling`        what ``qkd.teach`` returns
`Comparison`       what ``qkd.compare`` and ``qkd.reproduce`` return: ``comparison.json``
`Sweep`            what ``qkd.sweep`` returns: ``sweep.json``
`Result`           what all of them are, `Finding` those of studies; `Estimate` is a number with its 95 % interval
================== ===================================================================================================

Parts of a run: Line, Scores, Parameters, Sizes, TeacherCard, PromptTried, EncoderCard, Tried, StudentCard, Training,
Diagnosis, NoiseCard, Compared, Check, Tuned, Unlabeled. Of a device run: Jobs, Lost, MitigationCard, DeviceLine,
MeasuredText, Unexplained; of devices: Marks, DeviceNumbers, Spread. Of a comparison:
PairedDifference, Verdict, StudentLine, Measured, TeacherLine, Point, Geometry,
Tuning, Reproduction, Variant, Printed, Adaptation; of a sweep: Searched, SweepTrial, Validated.
`TrialAnswers` is a trial that both keep.
"""

from qkd.results.base import Estimate, PairedDifference, Parameters, Result, Scores, VerdictName
from qkd.results.device import (
    DeviceLine,
    DeviceNumbers,
    DeviceResult,
    Drift,
    Fitness,
    Jobs,
    LearnedResult,
    Lost,
    Marks,
    MeasuredResult,
    MeasuredText,
    MitigationCard,
    Spread,
    Unexplained,
)
from qkd.results.run import (
    Answer,
    Check,
    Compared,
    Diagnosis,
    EncoderCard,
    Evaluation,
    Labelling,
    Line,
    Metrics,
    NoiseCard,
    Prediction,
    PromptTried,
    Sizes,
    StudentCard,
    TeacherCard,
    Training,
    Tried,
    Tuned,
    Unlabeled,
)
from qkd.results.study import (
    Comparison,
    Adaptation,
    Finding,
    Geometry,
    Measured,
    Point,
    Printed,
    Reproduction,
    Searched,
    StudentLine,
    Sweep,
    SweepTrial,
    TeacherLine,
    TrialAnswers,
    Tuning,
    Validated,
    Variant,
    Verdict,
)

__all__ = [
    "Answer",
    "Check",
    "Compared",
    "Comparison",
    "Adaptation",
    "DeviceLine",
    "DeviceNumbers",
    "DeviceResult",
    "Diagnosis",
    "Drift",
    "EncoderCard",
    "Estimate",
    "Evaluation",
    "Finding",
    "Fitness",
    "Geometry",
    "Jobs",
    "Labelling",
    "LearnedResult",
    "Line",
    "Lost",
    "Marks",
    "Measured",
    "MeasuredResult",
    "MeasuredText",
    "Metrics",
    "MitigationCard",
    "NoiseCard",
    "PairedDifference",
    "Parameters",
    "Point",
    "Prediction",
    "Printed",
    "PromptTried",
    "Reproduction",
    "Result",
    "Scores",
    "Searched",
    "Sizes",
    "Spread",
    "StudentCard",
    "StudentLine",
    "Sweep",
    "SweepTrial",
    "TeacherCard",
    "TeacherLine",
    "Training",
    "TrialAnswers",
    "Tried",
    "Tuned",
    "Tuning",
    "Unexplained",
    "Unlabeled",
    "Validated",
    "Variant",
    "Verdict",
    "VerdictName",
]
