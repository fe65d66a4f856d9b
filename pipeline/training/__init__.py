"""Learning, and nothing else: the stages pretrain, scratch and finetune, on any number of ranks.

Start reading with `loop.py`, the whole of training on one screen. `fit.py` builds what the loop is given (the engine
over DeepSpeed, checkpoints, metrics) from a spec; `pretrain.py` and `arm.py` write the specs, `trials.py` decides which
trainings an arm needs, and `stage.py` is what the runner calls. May import `saved_models`, `distributed`, `tokens` and
the rooms below them; ranks and processes are the business of `distributed`, file names that of `saved_models`. No other
room imports DeepSpeed.
"""
