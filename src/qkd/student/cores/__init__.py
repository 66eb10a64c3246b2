"""The core of a student, between projection and head: a circuit on an engine, or a classical control of its size.

Students differ in their core alone. ``base.StudentCore`` is the interface. ``quantum.QuantumCore`` runs a circuit.
The controls are torch modules of the same size: ``classical.Linear``, ``classical.Mlp`` and ``classical.Fourier``.
The control ``product`` is the same circuit without entanglers, so it is a ``QuantumCore``, too.
"""
