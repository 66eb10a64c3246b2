"""Many students side by side, over several seeds, and what may be concluded from it.

``candidates`` gives students their names, ``trial`` trains one of them once, ``conditions`` are shots and noise of its
evaluation, ``compare`` runs all trials and keeps those that are done, ``tuning`` gives every student the same number of
tries, ``summary`` turns trials into the numbers of a report. ``space``,
``sweep`` and ``optuna_study`` search a student's settings; ``specs`` is what a person asks for.
"""
