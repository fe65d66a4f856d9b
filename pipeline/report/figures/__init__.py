"""The report's figures: each is drawn with matplotlib from the typed report, as inline SVG for the page and as PNG.

May import the typed report, `wording.py` and `finished_run.py` of this room, and no section or page; `experiments`
draws with `drawing.py` as well. Start reading with `all_figures.py`, which says what each figure shows.
"""
