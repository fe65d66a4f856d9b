"""Questions that one run cannot answer, a folder each: `ablation/` (does one more feature help?), `ladder/` (does the
lecture's ladder of models come out as in the lecture?) and `lr_range/` (which learning rates are worth a grid?).

`measurements.py` is shared: it records a published figure with the command, commit and machine it came from. This room
may import every room but `huggingface`, and no room imports it. Start with `ablation/ablate.py`.
"""
