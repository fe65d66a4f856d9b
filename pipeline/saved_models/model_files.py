"""File names of trained models: what a training stage leaves in its artifact's folder. Nothing else spells them out.

model.safetensors, model.json          pretrained (or imported) weights, and their shape
trials/<trial>/best.safetensors        an arm's weights of one trial: of its best step, and of its last
trials/<trial>/last.safetensors
trials/<trial>/trial.json              how the trial went (`trial_record.py`)
branches/<branch>/...                  the same of each branch of pretraining
checkpoints/step-<step>/               sharded checkpoints, while a training runs
"""

from __future__ import annotations

WEIGHTS = "model.safetensors"
SHAPE = "model.json"
BEST, LAST = "best.safetensors", "last.safetensors"
TRIALS = "trials"
TRIAL_RECORD = "trial.json"
BRANCHES = "branches"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
