"""Many students side by side, over several seeds, and what may be concluded from it.

``contestants`` says what a student's name means, ``trial`` trains one of them once, ``compare`` does all of them and
keeps what is done, ``statistics`` judges differences, ``summary`` puts trials into the numbers that a report shows.
"""
