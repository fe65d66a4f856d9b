"""A run as a graph of stages: which there are (`stages.py`, `variants.py`), what identifies an artifact
(`fingerprints.py`), where it lies and what vouches for it (`store.py`, `manifest.py`, `stage_counts.py`, `lock.py`),
what a stage is given (`work.py`), and the commands over the whole: do it (`runner.py`), say what would be done
(`plan.py`, `forecast.py`), say how far it is (`status.py`). Stages are named here, never imported. May import
`config`, `execution`, `runtime`, `errors` and `gpt`. Start with `stages.py`, then `runner.py`.
"""
