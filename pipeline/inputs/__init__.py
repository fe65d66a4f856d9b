"""What a run reads from outside the store, found and identified by content: the target, the sources of the corpus, a
folder of pretrained weights. `outside` looks at all of it; `local_files` finds files, `data_paths` says what a path of
the config means, `missing_files` why nothing was found, `file_memory` remembers hashes and the last answers of servers,
`hub_commit` and `http_file` ask them, `named_target` and `stand_ins` know the texts that need no path. May import
`config`, `execution`, `runtime` and `errors`; `huggingface_hub` is loaded only where a config names a hub dataset.
Start reading with `outside`.
"""
