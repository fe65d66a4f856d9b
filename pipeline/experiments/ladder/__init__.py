"""`folio lecture`: trains the lecture's models, from the bigram up, and compares their losses with the lecture's.

Start with `lecture_experiment.py`, which does all of it and writes the files. `rungs.py` reads the configs of the
rungs, `rung_trials.py` trains one rung with one seed, `climb.py` trains them all, `equalities.py` computes in two ways
what the lecture shows to be equal, `ladder_plot.py` and `page.py` show the results. May be imported here: every room
below `experiments`, and `experiments/measurements.py`; not the other experiments.
"""
