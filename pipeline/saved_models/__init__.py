"""What a trained model is on disk, whoever made it and whoever reads it.

Training writes here, evaluation, report and export read here, and none of them knows how the others work: the file
names (`model_files`), weights and shape (`weights`), the record of a trial (`trial_record`), a model opened from a path
(`saved_model`) and text written by one (`continue_text`). May import `distributed`, `tokens`, `graph` and what is below
them; knows nothing of DeepSpeed or of a report. Start reading with `model_files.py`.
"""
