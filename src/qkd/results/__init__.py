"""What runs come to, as types. Fields are what is stored, and ``to_dict`` gives it.

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
`Labeling`        what ``qkd.teach`` returns
`Comparison`       what ``qkd.compare`` and ``qkd.reproduce`` return: ``comparison.json``
`Sweep`            what ``qkd.sweep`` returns: ``sweep.json``
`Result`           what all of them are, `Finding` those of studies; `Estimate` is a number with its 95 % interval
================== ===================================================================================================

Parts of a run: Line, Scores, Parameters, Sizes, TeacherCard, SelectionTrial, EncoderCard, Tried, StudentCard, Training,
Diagnosis, NoiseCard, Compared, Check, Tuned, Unlabeled. Of a device run: Jobs, Lost, MitigationCard, DeviceScores,
MeasuredText, Unexplained; of devices: NoiseScores, DeviceNumbers, Spread. Of a comparison:
PairedDifference, Verdict, StudentResult, Measured, TeacherLine, Point,
Tuning, Reproduction, Variant, Printed, Adaptation; of a sweep: SearchedSetting, SweepTrial, ValidationResult.
`TrialResult` is a trial that both keep.
"""

from qkd.results.base import Estimate, PairedDifference, Parameters, Result, Scores, VerdictName
from qkd.results.device import (
    DeviceNumbers,
    DeviceResult,
    DeviceScores,
    Drift,
    Fitness,
    Jobs,
    LearnedResult,
    Lost,
    MeasuredResult,
    MeasuredText,
    MitigationCard,
    NoiseScores,
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
    Labeling,
    Line,
    Metrics,
    NoiseCard,
    Prediction,
    SelectionTrial,
    Sizes,
    StudentCard,
    TeacherCard,
    Training,
    Tried,
    Tuned,
    Unlabeled,
)
from qkd.results.study import (
    Adaptation,
    Comparison,
    Finding,
    Measured,
    Point,
    Printed,
    Reproduction,
    SearchedSetting,
    StudentResult,
    Sweep,
    SweepTrial,
    TeacherLine,
    TrialResult,
    Tuning,
    ValidationResult,
    Variant,
    Verdict,
)

__all__ = [
    "Adaptation",
    "Answer",
    "Check",
    "Compared",
    "Comparison",
    "DeviceNumbers",
    "DeviceResult",
    "DeviceScores",
    "Diagnosis",
    "Drift",
    "EncoderCard",
    "Estimate",
    "Evaluation",
    "Finding",
    "Fitness",
    "Jobs",
    "Labeling",
    "LearnedResult",
    "Line",
    "Lost",
    "Measured",
    "MeasuredResult",
    "MeasuredText",
    "Metrics",
    "MitigationCard",
    "NoiseCard",
    "NoiseScores",
    "PairedDifference",
    "Parameters",
    "Point",
    "Prediction",
    "Printed",
    "Reproduction",
    "Result",
    "Scores",
    "SearchedSetting",
    "SelectionTrial",
    "Sizes",
    "Spread",
    "StudentCard",
    "StudentResult",
    "Sweep",
    "SweepTrial",
    "TeacherCard",
    "TeacherLine",
    "Training",
    "TrialResult",
    "Tried",
    "Tuned",
    "Tuning",
    "Unexplained",
    "Unlabeled",
    "ValidationResult",
    "Variant",
    "Verdict",
    "VerdictName",
]
