"""Many students side by side, over several seeds, and what may be concluded from it.

``contestants`` says what a student's name means, ``trial`` trains one of them once, ``measure`` asks it under shots and
noise, ``compare`` does all trials and keeps what is done, ``tuning`` gives everybody the same number of tries,
``statistics`` judges differences, ``summary`` puts trials into the numbers that a report shows. ``space`` and ``sweep``
search a student's settings.
"""
