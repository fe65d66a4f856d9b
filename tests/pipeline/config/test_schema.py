"""What the config tree itself refuses: every number has bounds, and numbers that make no sense together."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, ValidationError

from pipeline.config.loading import load_config, load_section, with_changes
from pipeline.config.quantities import Bounded, byte_size, count
from pipeline.config.schema import Config
from pipeline.config.section import Section
from pipeline.errors import ConfigError
from pipeline.experiments.ladder.rungs import Rung


class NumericField(NamedTuple):
    """A field that takes numbers: its dotted key, its bounds (None without any), and whether it is a list of them."""

    key: str
    bounds: Bounded | None
    is_list: bool
    reason: str  # why it has no bounds


def numeric_fields(section: type[BaseModel], prefix: str = "") -> Iterator[NumericField]:
    """Every numeric field below a section, through lists, optional values and unions."""
    for name, field in section.model_fields.items():
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        # Rebuilt, because pydantic moves what stands around a whole annotation into the field's metadata.
        annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
        yield from _numbers_in(annotation, f"{prefix}{name}", None, False, str(extra.get("unbounded", "")))


def _numbers_in(annotation: Any, key: str, bounds: Any, is_list: bool, reason: str) -> Iterator[NumericField]:
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        found = [one.func for one in metadata if isinstance(getattr(one, "func", None), Bounded)]
        yield from _numbers_in(inner, key, found[0] if found else bounds, is_list, reason)
    elif annotation in (int, float):
        yield NumericField(key, bounds, is_list, reason)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from numeric_fields(annotation, f"{key}[]." if is_list else f"{key}.")
    elif get_origin(annotation) in (Union, types.UnionType):
        for one in get_args(annotation):
            yield from _numbers_in(one, key, bounds, is_list, reason)
    elif get_origin(annotation) in (tuple, list):
        for one in get_args(annotation):
            yield from _numbers_in(one, key, bounds, True, reason)
    else:
        # Whole texts and truth values; and sections whose values go through the tree themselves (`with_changes`).
        assert annotation in (str, bool, type(None), Ellipsis, Any) or get_origin(annotation) in (Literal, dict), key


def test_the_walk_finds_what_we_know_of() -> None:
    found = {field.key: field for field in numeric_fields(Config)}
    assert len(found) > 75
    assert {"model.dropout", "scratch.dropout", "corpus.decontaminate.ngram_words", "launch.port"} <= found.keys()
    assert found["scratch.learning_rates"].is_list
    assert "corpus.sources[].weight" in found

    class Unbounded(Section):
        number: int | None = None

    assert next(numeric_fields(Unbounded)).bounds is None


FIELDS = [(kind, field) for kind in (Config, Rung) for field in numeric_fields(kind)]


def outside(bounds: Bounded) -> Iterator[float]:
    """A value below the bounds and one above, each as near as its kind allows."""
    step = 1 if bounds.read in (count, byte_size) else 1e-6
    yield bounds.low if bounds.excludes_low else bounds.low - step
    yield bounds.high if bounds.excludes_high else bounds.high + step


def values_of(key: str, value: Any) -> dict[str, Any]:
    first, _, rest = key.partition(".")
    if first.endswith("[]"):
        return {first[:-2]: [{"path": "a", **values_of(rest, value)}]}
    return {first: values_of(rest, value) if rest else value}


@pytest.mark.parametrize(("kind", "field"), FIELDS, ids=lambda value: getattr(value, "key", ""))
def test_every_number_is_bounded_from_below_and_above(kind: type[Section], field: NumericField, tmp_path: Path) -> None:
    if field.bounds is None:
        assert field.reason, (
            f"give {field.key} a kind of quantities.py, or say in json_schema_extra why it has no bound"
        )
        return
    for value in outside(field.bounds):
        written = [value] if field.is_list and not field.key.count("[]") else value
        path = tmp_path / "run.yaml"
        path.write_text("\n# a comment\n" + str(values_of(field.key, written)))
        with pytest.raises(ConfigError) as caught:
            load_section(path, kind)
        key = field.key.replace("[]", ".0") + (".0" if field.is_list and "[]" not in field.key else "")
        assert f"run.yaml:3: {key}: {value!r} is not between {field.bounds}." in str(caught.value)


CHANGED = {"report.rivals": "scratch.clip", "report.sizes": "model.width", "ablation.changes": "pretrain.beta1"}


@pytest.mark.parametrize("key", CHANGED.values())
@pytest.mark.parametrize("value", [-1, 10**5000, float("nan"), True, None, [1], "1e400", {"a": 1}], ids=type)
def test_changes_of_variants_and_ablations_are_bounded_alike(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"report\.rivals\.x: {key}: .* is not ") as caught:
        with_changes(Config(name="x"), {key: value}, "report.rivals.x")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("key", ["model.layers.x", "name.x", "scratch.seeds.0", ".".join("a" * 20_000), "model."])
def test_changes_of_what_is_no_key_are_refused(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_changes(Config(name="x"), {key: 1}, "report.rivals.x")
    assert str(caught.value).startswith("report.rivals.x: ")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("values", "refusal"),
    [
        ({"target": {"name": "tiny-shakespeare", "path": "x"}}, "give exactly one of name, path or hub"),
        ({"target": {"path": "x", "validation": 0.6, "selection": "40%"}}, "leave nothing to train on"),
        ({"corpus": {"sources": [{"path": "a", "url": "https://b"}]}}, "give exactly one of path, url or hub"),
        ({"corpus": {"sources": [{"path": "a", "weight": 0}]}}, r"0 is not between 0 \(excluded\) and 1,000"),
        ({"pretrained": {"path": "gpt2"}, "corpus": {"fallback": True}}, "not both"),
        ({"report": {"rivals": {"leak": {"scratch.clip": 0}}}}, "the name 'leak' is taken"),
        ({"ablation": {"seeds": [1]}}, "at least 2 items"),
        ({"ablation": {"seeds": [1, 2, 1]}}, "seeds has 1 twice"),
        ({"scratch": {"seeds": [3, 3]}}, "seeds has 3 twice"),
        ({"finetune": {"learning_rates": ["1e-3", 0.001]}}, r"learning_rates has 0\.001 twice"),
        ({"pretrain": {"tokens": 8191}}, "tokens 8,191 is less than one batch of batch_tokens 8,192"),
        ({"pretrain": {"warmup": 0.8}}, "warmup 0.8 and decay 0.3 are together more than all steps"),
        ({"tokenizer": {"vocab_size": 256}}, "bpe needs 257"),
        ({"report": {"stride": 257}}, "report.stride 257 is above model.context 256"),
        ({"deepspeed": {"a": {"b": float("inf")}}}, "JSON cannot hold"),
        ({"deepspeed": {"a": {1, 2}}}, "JSON cannot hold"),
        ({"deepspeed": {"comet": {"api_key": "x"}}}, "comet.api_key would be kept in artifacts; give it to"),
        ({"name": "../x"}, "should match pattern"),
    ],
)
def test_contradictions_are_refused(values: dict[str, Any], refusal: str) -> None:
    with pytest.raises(ValidationError, match=refusal):
        Config.model_validate({"name": "x", **values})


@pytest.mark.parametrize(
    "values",
    [
        {"scratch": {"clip": 0, "evaluate_every": 0, "save_every": 0, "patience": 0, "skip_limit": 0}},
        {"scratch": {"schedule": "cosine", "warmup": 0.8}, "pretrain": {"warmup": 0.1, "decay": 0.9}},
        {"tokenizer": {"kind": "char", "vocab_size": 65}},
        {"corpus": {"validation": 0, "min_characters": 0}},
        {"report": {"temperature": 0, "stride": 256, "seed": 2**63 - 1}},
        {"pretrain": {"tokens": 8192}},
    ],
)
def test_what_makes_sense_is_taken(values: dict[str, Any]) -> None:
    Config.model_validate({"name": "x", **values})


def test_the_remedy_of_a_bound_is_its_number(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text("pretrain:\n  learning_rate: -1e-3\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    refusal = "pretrain.learning_rate: -0.001 is not between 0 (excluded) and 10."
    assert str(caught.value).startswith(f"{path}:2: {refusal}")
    assert load_config(path, ["pretrain.learning_rate=10"]).pretrain.learning_rate == 10
