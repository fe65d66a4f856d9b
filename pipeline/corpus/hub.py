"""Datasets of the Hugging Face hub, row by row. HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE are honoured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
from huggingface_hub import constants

from pipeline.corpus.fields import MISSING, closest_key, outer_keys, text_keys, value_at
from pipeline.corpus.records import Record
from pipeline.errors import ConfigError, DataError, EnvironmentFault
from pipeline.inputs.hub_commit import first_line, hub_commit, hub_refusals

# The defaults are twenty attempts five seconds apart: too long to wait for a hub that is gone.
datasets.config.STREAMING_READ_MAX_RETRIES = 5
datasets.config.STREAMING_READ_RETRY_INTERVAL = 1


@dataclass(frozen=True)
class HubDataset:
    """One split of a hub dataset; `revision` is the commit that its branch or tag pointed to when it was resolved."""

    name: str
    subset: str | None
    split: str
    revision: str
    license: str

    @staticmethod
    def resolve(name: str, subset: str | None, split: str, revision: str) -> HubDataset:
        """Ask the hub for the dataset. Raises ConfigError if it is not there, EnvironmentFault if the hub is not."""
        if constants.HF_HOME.startswith("~"):  # it would become a folder of that name in the current one
            raise EnvironmentFault(
                f"Hub dataset {name}: this user has no home folder, where the hub's files would go.",
                remedy="Set HF_HOME to a folder for them.",
            )
        # Pinned to a commit here, so that the license noted and the rows read later are those of the same version.
        found = hub_commit(name, revision)
        return HubDataset(name, subset, split, found.commit, found.license)

    def rows(self, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """Rows in the order of the files, with `columns` only; each may be a dotted path into a struct.

        The first must exist, others may be missing. Raises ConfigError for a missing first column, DataError for an
        unreadable row, EnvironmentFault for a hub that does not answer.
        """
        with hub_refusals(self.name), _refusals(self.name):
            rows = datasets.load_dataset(
                self.name, self.subset, split=self.split, revision=self.revision, streaming=True
            )
            # None for formats whose columns are only known once a row is read, such as JSON lines.
            names = rows.column_names or []
            # Without the column with the text, whole rows are read: the refusal names what is there.
            if not outer_keys(columns[0]).isdisjoint(names):
                wanted = set().union(*map(outer_keys, columns))
                rows = rows.select_columns([name for name in names if name in wanted])
            for row in rows:
                if value_at(row, columns[0]) is MISSING:
                    raise _missing_column(self.name, columns[0], row)
                yield row

    def records(self, field: str) -> Iterator[Record]:
        """The rows as records, numbered from 1; `field` is the column with the text."""
        for number, row in enumerate(self.rows((field, "id")), start=1):
            name = row.get("id")
            yield Record(self.name, number, "text", value_at(row, field), "" if name is None else str(name))


def _missing_column(dataset: str, field: str, row: dict[str, Any]) -> ConfigError:
    keys = dict(text_keys(row))
    return ConfigError(
        f"Hub dataset {dataset} has no column {field!r} among {', '.join(keys)}.",
        remedy=f"Set field: {closest_key(field, keys) or 'to the column with the text'}.",
    )


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turn what `datasets` raises into refusals with a remedy; what the hub itself raises passes."""
    try:
        yield
    # Before ValueError, of which UnicodeDecodeError and most Arrow errors are subclasses.
    except (pa.ArrowException, UnicodeDecodeError, datasets.exceptions.DatasetGenerationError) as error:
        raise DataError(
            f"Hub dataset {name} holds a row that `datasets` cannot read: {first_line(error)}.",
            remedy="Fetch its files and give them as path: a bad line is then set aside, not fatal.",
        ) from None
    except (ValueError, RuntimeError) as error:  # how `datasets` names an unknown subset or split
        raise ConfigError(f"Hub dataset {name}: {first_line(error)}.", remedy="Check subset and split.") from None
