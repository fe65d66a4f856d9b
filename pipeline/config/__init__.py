"""The config of a run: the tree of keys with their defaults (`schema.py`, and by subject `text_sections.py` and
`training_sections.py`, all of one kind, `section.py`), how a YAML file and `--set` become that tree (`loading.py`), and
numbers as people write them (`quantities.py`). May import `execution`, `runtime`, `errors` and `gpt`, and needs only
the last two. Nothing else takes a whole Config but the graph: a stage is given its slice. Start with `schema.py`.
"""
