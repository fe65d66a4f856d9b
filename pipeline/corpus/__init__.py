"""The corpus and the target: from sources anywhere to clean, deduplicated, decontaminated text files.

Two stages live here: `target_stage` fetches the text whose loss is reported and cuts it into its splits; `stage` reads
the sources of the corpus (`sources`, `hub`, `decompress`, `records`), judges each record (`cleaning`,
`contamination`), writes what is kept as parts (`source_writer`, `parts`), says what was not (`losses`) and holds a part
out (`held_out`). Both read text by `text_encoding`. May be imported here: graph, inputs, config, execution, runtime and
errors; `datasets` is imported in this room only. Start reading with `stage`, then follow one
record through `records`, `cleaning` and `source_writer`.
"""
