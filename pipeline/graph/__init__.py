"""A run as a graph of stages: which there are (`stages.py`, `variants.py`), what identifies an artifact
(`fingerprints.py`), where it lies and what vouches for it (`store.py`, `manifest.py`, `stage_counts.py`, `lock.py`),
what a stage is given (`work.py`), and the commands over the whole: do it (`runner.py`), say what would be done, on
which machine, how long and whether it makes sense (`plan.py`, from `forecast.py` and `durations.py`), say how far it is
(`status.py`). The batch that a short text can fill is decided here, too (`fitted_batch.py`). Stages are named here,
never imported. May import `config`, `inputs`, `execution`, `runtime`, `errors` and `gpt`. Start with `stages.py`, then
`runner.py`.
"""
