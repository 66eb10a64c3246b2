"""Encoders: texts to embeddings.

::

    encoder = qkd.encoders.make_encoder("minilm")
    embeddings = encoder.encode(["a text"])

================== ===================================================================================================
`Encoder`          the protocol of an encoder
`make_encoder`     returns the encoder of a name
================== ===================================================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.encoders.protocol import Encoder
    from qkd.encoders.registry import make_encoder

__all__ = ["Encoder", "make_encoder"]

__getattr__, __dir__ = exports(
    __name__,
    {
        "Encoder": "qkd.encoders.protocol",
        "make_encoder": "qkd.encoders.registry",
    },
)
