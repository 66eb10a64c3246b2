"""What stands between a student's projection and its head: a quantum circuit on an engine, or a classical control.

Students differ in their core alone; ``base.StudentCore`` is what a student asks of it. ``quantum.QuantumCore`` runs a
circuit. The controls are torch modules of the same size: ``classical.Linear``, ``classical.Mlp``,
``classical.Fourier``. (``product``, the same circuit without entanglers, is a ``QuantumCore`` too.)
"""
