"""The program `folio`: one module for each kind of command; `main.py`, where it starts; `program.py`, all together.

A command reads its arguments, calls `pipeline`, and prints; it computes nothing itself. Everything of `pipeline` may be
imported here, inside the commands where it is heavy. Start with `runs.py`: `folio run` and one command per stage.
"""
