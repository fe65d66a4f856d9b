"""The model and nothing else: a GPT in PyTorch that knows no devices, ranks, files or configs, and imports torch alone.

Start with `lecture.py`, the models of the lecture "Let's build GPT" in one file to read beside the video; then read
`model.py`, the real model, with `attention.py`. `shape.py` lists its options, `loss.py` sums the loss, `sampling.py`
writes text, `counts.py` counts parameters and arithmetic without building a model, `normalization.py` has a fast RMS
norm.
Options that came after the lecture are fenced by a comment "Later option"; a reader of the lecture can skip them.
"""
