"""Where models leave Folio and enter it: the formats of Hugging Face's `transformers`, in both directions.

Start with `export.py` (the command `folio export`) and `import_gpt2.py` (`folio import`); `import_stages.py` lets a run
begin from imported weights. `architectures.py` decides which architecture of `transformers` computes the same as a GPT,
`gpt2.py` and `llama.py` translate names and matrices, `tokenizer_files.py` the tokenizer. `parity.py` compares both
sides before anything is written; it alone imports `transformers`, which installs with the extra `export`. This room may
import every room but `experiments`; no room imports this one, but `graph/stages.py` names the functions of its stages.
"""
