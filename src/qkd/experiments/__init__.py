"""Many students side by side, over several seeds, and what may be concluded from it.

``contestants`` says what a student's name means, ``trial`` trains one of them once, ``conditions`` are shots and noise
under which it answers, ``compare`` does all trials and keeps what is done, ``tuning`` gives everybody the same number
of tries, ``statistics`` judges differences, ``summary`` puts trials into the numbers that a report shows. ``space``,
``sweep`` and ``optuna_study`` search a student's settings; ``specs`` is what a person asks for.
"""
