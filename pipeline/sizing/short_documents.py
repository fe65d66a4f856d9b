"""Whether the documents of a corpus are short by nature, such as messages: then short ones must not be dropped."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.config.text_sections import CorpusSection, SourceSection
from pipeline.corpus.cleaning import CleaningRules, clean_records
from pipeline.corpus.records import read_file
from pipeline.inputs.outside import Outside

LOOKED_AT = 500  # documents of the first file of each source
MOST_SHORT = 0.1  # share of short documents up to which they are taken for scraps
FEWEST_CHARACTERS = 20


def fewest_characters(config: Config, outside: Outside) -> int | None:
    """The `corpus.min_characters` that keeps the documents of the local sources; None where the default does."""
    sources = {source.name: source for source in config.corpus.sources}
    texts = outside.texts.get("corpus", {})
    samples = [_lengths(sources[name], text.files[0].path) for name, text in texts.items() if text.files]
    short = any(_short_share(lengths) > MOST_SHORT for lengths in samples)
    return FEWEST_CHARACTERS if short else None


def _short_share(lengths: list[int]) -> float:
    limit = CorpusSection().min_characters
    return sum(length < limit for length in lengths) / len(lengths) if lengths else 0.0


def _lengths(source: SourceSection, path: str) -> list[int]:
    """Bytes of the first documents of a file, cleaned as a run would."""
    rules = CleaningRules(source.name, source.field, 1, Path(), None, source.encoding)
    records = islice(read_file(path, Path(path).name, source.field, source.encoding), LOOKED_AT)
    return [result.text_bytes for result in clean_records(rules, records) if not result.reason]
