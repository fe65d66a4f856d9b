"""`folio lr-range`, the learning rate range test (Smith 2017): one short training whose rate rises step by step.

`rising_rate.py` is what every rank does and leaves readings, `suggestion.py` starts it and reads a grid off them. It
belongs to the experiments: it may import every room of the pipeline but `huggingface`, and no other experiment; only
the command line imports it. Start reading with `rising_rate.py`.
"""
