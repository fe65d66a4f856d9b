"""Tokens: from text to shards of token ids, and from shards to the batches of a step and the windows that are scored.

Two stages live here: `tokenizer_stage` trains the vocabulary (`tokenizer` uses it, `pretokenizer` makes it fast) and
`shards_stage` encodes the corpus and the target into Arrow files (`shard`) and searches them for the target's
validation text (`contamination_check`). `batches` says which samples each step trains on, in the order of `data_order`;
`scoring_windows` cuts a text so that every token is scored once. May be imported here: corpus, graph, config,
execution, runtime and errors, and gpt. Start reading with `batches`, then `shard`.
"""
