"""What every record of `report.json` shares: how its fields are written, and how an estimate becomes a record."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import SkipJsonSchema

from pipeline.evaluation.intervals import Estimate

Value = TypeVar("Value")
Mean = TypeVar("Mean", bound="ReportedMean")
Interval = tuple[float, float]  # 95 %: low, high


class LeftOut:
    """Marks a field that is left out of report.json when it is None; any other None is written as null."""


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)  # null is not a value that the file can hold there


OrLeftOut = Annotated[Value | SkipJsonSchema[None], LeftOut(), Field(json_schema_extra=_without_default)]


def came_later(*names: str) -> ConfigDict:
    """Settings of a record with fields that the first reports of format 1 lack: the schema does not require them."""

    def not_required(schema: dict[str, Any]) -> None:
        schema["required"] = [name for name in schema["required"] if name not in names]

    return ConfigDict(json_schema_extra=not_required)


class ReportRecord(BaseModel):
    """A frozen part of the report; a field that is not declared is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def written(self) -> dict[str, Any]:
        """The fields that report.json holds, by name and in order."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in values.items() if value is not None or not self._left_out(name)}

    @classmethod
    def _left_out(cls, name: str) -> bool:
        return any(isinstance(mark, LeftOut) for mark in cls.model_fields[name].metadata)


class ReportedMean(ReportRecord):
    """An estimate with its 95% interval."""

    mean: float
    ci95: Interval

    @classmethod
    def of(cls: type[Mean], estimate: Estimate) -> Mean:
        """The record of an estimate: the one place where its fields get the names of report.json."""
        # What a subclass adds, per_seed or p_value, has the same name in both.
        return cls(**{name: getattr(estimate, name) for name in cls.model_fields})


class ReportedLoss(ReportedMean):
    """A loss: the mean over seeds, and each seed's own."""

    per_seed: tuple[float, ...]


class ReportedDifference(ReportedMean):
    """A difference of two losses, with the two-sided p-value against zero."""

    p_value: float
