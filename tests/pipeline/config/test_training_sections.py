"""The keys about models and their training."""

from __future__ import annotations

from pipeline.config.training_sections import FinetuneSection, ModelSection, ScratchSection


def test_finetuning_defaults_to_lower_rates_and_fewer_steps_in_a_grid_of_the_same_size() -> None:
    scratch, finetune = ScratchSection(), FinetuneSection()
    assert max(finetune.learning_rates) < max(scratch.learning_rates)
    assert finetune.max_steps < scratch.max_steps
    assert len(finetune.learning_rates) == len(scratch.learning_rates)


def test_the_models_shape_marks_documents_only_under_a_document_mask() -> None:
    assert ModelSection().shape(50, end_of_text=7).document_start is None
    masked = ModelSection(document_mask=True, dropout=0.2).shape(50, dropout=0.0, end_of_text=7)
    assert (masked.document_start, masked.dropout, masked.vocab_size) == (7, 0.0, 50)
