"""What the numbers are, before any page shows them: losses of saved weights, their intervals, the gain, the power law.

May import `saved_models`, `distributed`, `tokens`, `corpus`, `graph`, `config`, `execution`, `runtime` and `errors`;
never `training`, so that a number does not depend on how its weights came about, and never `report`. Start reading
with `scoring.py` (a loss for each window of a text), then `intervals.py` (how sure we are of it); `arms.py` says whose
weights are scored, `bits_per_byte.py` in which unit losses compare.
"""
