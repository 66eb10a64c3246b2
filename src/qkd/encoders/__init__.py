"""Encoders: texts to embeddings.

::

    encoder = qkd.encoders.make_encoder("minilm")
    embeddings = encoder.encode(["a text"])

=================== ==================================================================================================
`Encoder`           the protocol of an encoder
`make_encoder`      returns the encoder with a given name
`embed_texts`       returns embeddings from the cache, and computes those that it lacks
=================== ==================================================================================================

A new kind is one module with a function ``make(request)`` and one line of ``qkd.encoders.registry.KINDS``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from qkd.core.lazy import exports

if TYPE_CHECKING:
    from qkd.encoders.protocol import Encoder, embed_texts
    from qkd.encoders.registry import make_encoder

__all__ = ["Encoder", "embed_texts", "make_encoder"]

__getattr__, __dir__ = exports(__name__)
