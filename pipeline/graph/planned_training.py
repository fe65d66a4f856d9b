"""One training stage as it would be done: with the batch that its text can fill, and what one training comes to."""

from __future__ import annotations

from dataclasses import dataclass

from gpt.counts import num_parameters
from gpt.shape import GPTShape
from pipeline.config.training_sections import ArmSection, PretrainSection, TrainingSection
from pipeline.errors import ConfigError
from pipeline.graph.expected_texts import ExpectedTexts
from pipeline.graph.fitted_batch import TrainingText, fitted_section
from pipeline.graph.stages import Node


@dataclass(frozen=True)
class PlannedTraining:
    """A training stage of a run or of a variant. One training is a trial of an arm, or pretraining as a whole."""

    stage: str  # pretrain, scratch or finetune
    section: TrainingSection  # with the batch that the text can fill
    text: TrainingText
    knows_text: bool
    parameters: int
    notes: tuple[str, ...]  # where the section differs from the config's, or why the text is too short for it

    @classmethod
    def of(cls, node: Node, shape: GPTShape, texts: ExpectedTexts, ranks: int) -> PlannedTraining:
        """A text that is too short is a note here and no refusal: before there are shards its length is a guess."""
        stage, knows = node.stage.name, texts.knows(node.stage.name)
        text = TrainingText.of(stage, texts.shards, node.stage.slice(node.config).get("weights", {}))
        section: TrainingSection = getattr(node.config, stage)
        notes: list[str] = []
        if knows:
            try:
                section, notes = fitted_section(stage, section, text, context=shape.context, ranks=ranks)
            except ConfigError as refusal:
                notes = [str(refusal)]
        return cls(stage, section, text, knows, num_parameters(shape), tuple(notes))

    @property
    def tokens(self) -> int:
        """Tokens of one training, to the end of its planned steps."""
        return _steps(self.section) * self.section.batch_tokens

    @property
    def epochs(self) -> float | None:
        """How often one training sees its text; None where the size of that is unknown."""
        return self.tokens / self.text.tokens if self.knows_text and self.text.tokens else None

    @property
    def tokens_per_parameter(self) -> float:
        """Tokens of one training for each parameter of the model."""
        return self.tokens / self.parameters


def _steps(section: TrainingSection) -> int:
    if isinstance(section, ArmSection):
        return section.max_steps
    assert isinstance(section, PretrainSection), "what is not an arm pretrains"
    return section.steps
