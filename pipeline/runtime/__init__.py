"""What any program needs of its machine: files, memory, processes, precision, progress, versions, readable numbers.

Nothing here knows a stage or a model. Only `pipeline.errors` may be imported. Start with `files.py`: every file that
must be complete or absent is written with `replacing`; `progress.py` is what an operator sees of long work.
"""
