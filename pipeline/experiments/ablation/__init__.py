"""`folio ablate`: single changes of a config, each compared with the baseline at matched tokens and at matched time.

Start with `ablate.py`, which trains and scores everything. `changed_configs.py` builds the configs, `training_jobs.py`
runs several trainings at a time, `speed.py` times their steps; `effects.py` turns losses into effects with intervals
and verdicts, and `page.py` writes the page. May be imported here: every room below `experiments`, and
`experiments/measurements.py`; not the other experiments.
"""
