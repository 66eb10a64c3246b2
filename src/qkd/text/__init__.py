"""Everything left of the trainer: texts, encoders, teachers, labelling.

::

    dataset = qkd.text.load("reviews.csv", text_column="review", label_column="stars")
    encoder = qkd.text.make_encoder("minilm")
    embeddings = encoder.encode(dataset.texts)

================== ===================================================================================================
`load`             texts and labels of a file, a hub data set, or the embedded `docstrings`
`Dataset`          N texts and labels
`split`            rows for training, validation and test
`make_encoder`     what turns texts into embeddings (N,D)
`make_teacher`     what answers texts with logits (N,C)
`Encoder`          the protocol of an encoder
`Teacher`          the protocol of a teacher
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.lazy import exports

if TYPE_CHECKING:
    from qkd.text.data.dataset import Dataset
    from qkd.text.data.load import load_dataset as load
    from qkd.text.data.splits import split_dataset as split
    from qkd.text.encoders.make import make_encoder
    from qkd.text.protocols import Encoder, Teacher
    from qkd.text.teachers.make import make_teacher

__all__ = ["Dataset", "Encoder", "Teacher", "load", "make_encoder", "make_teacher", "split"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Dataset": "qkd.text.data.dataset",
        "Encoder": "qkd.text.protocols",
        "Teacher": "qkd.text.protocols",
        "load": "qkd.text.data.load:load_dataset",
        "make_encoder": "qkd.text.encoders.make",
        "make_teacher": "qkd.text.teachers.make",
        "split": "qkd.text.data.splits:split_dataset",
    },
)
