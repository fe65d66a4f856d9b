"""File names of trained models: what a training stage leaves in its artifact's folder. Nothing else spells them out.

model.safetensors, model.json          pretrained (or imported) weights, and their shape
metrics.jsonl                          a line for every step and evaluation
trials/<trial>/last.safetensors        an arm's weights of one training: a refit's, or a trial's of its last step
trials/<trial>/best.safetensors        and of its best step, where trials are reported
trials/<trial>/trial.json              how the trial went (`trial_record.py`)
branches/<branch>/...                  the same for each branch: of pretraining, and of the arm finetuned from it
checkpoints/step-<step>/               sharded checkpoints, while a training runs
"""

from __future__ import annotations

# Finished artifacts are found by these names and their manifests list them: a rename would make every one stale.
WEIGHTS = "model.safetensors"
SHAPE = "model.json"
BEST, LAST = "best.safetensors", "last.safetensors"
TRIALS = "trials"
TRIAL_RECORD = "trial.json"
BRANCHES = "branches"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
