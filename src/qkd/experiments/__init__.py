"""Comparisons of many students over several seeds, and searches over a student's settings.

================ ======================================================================
``candidates``   the students by name
``trial``        one student trained once, and tuning
``conditions``   shots and noise of an evaluation
``compare``      all trials of a comparison, stored as they finish
``summary``      numbers and verdicts of a report
``reproduction`` the paper's recipe and the deviations of its public code
``space``        the search space of a sweep
``sweep``        the search, with Optuna
``specs``        the settings of both commands
================ ======================================================================
"""
