"""The report as people read it: `render.py` fills report.html.jinja and report.md.jinja from the typed report.

May import the typed report, `wording.py` and the figures' names and colours; only `stage.py` imports it. The page needs
nothing but itself: style (report.css), script (report.js) and figures are inside it. Start reading with `render.py`.
"""
