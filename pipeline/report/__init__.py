"""How the numbers are told: stage `report` scores a finished run and writes report.json, .md and .html, and gain.png.

May import everything below: `evaluation` for the numbers, `saved_models`, `tokens`, `graph` and further down; nobody
imports it but `experiments` (for the drawing of figures) and `cli`. Inside, imports run one way: `report_records.py`
and `report_json.py` (the typed report), `wording.py`, `finished_run.py` and `run_scores.py` (what is read and scored),
then `sections/` (a record of the report each), `figures/`, `page/`, and `stage.py` on top. Start reading with
`stage.py`, then `report_json.py`.
"""
