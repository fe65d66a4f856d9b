"""The sections of report.json, a module for each: a function of (run, scores) that returns the section's typed record.

A section may import `evaluation`, the typed report (`report_records.py`), `wording.py`, `finished_run.py` and
`run_scores.py`; neither figures nor the page. Start reading with `arm_losses.py`, which holds the answer itself.
"""
