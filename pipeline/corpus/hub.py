"""Datasets of the Hugging Face hub, row by row. HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE are honoured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import datasets
import pyarrow as pa
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from pipeline.corpus.records import Record
from pipeline.errors import ConfigError, DataError, EnvironmentFault

# What the HTTP library raises when the transport fails. Found through a base class, because huggingface_hub has changed
# that library twice: requests, httpx, httpx2.
TransportError: type[Exception] = HfHubHTTPError.__bases__[0]
INFO_SECONDS = 5.0
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
        # Pinned to a commit here, so that the license noted and the rows read later are those of the same version.
        with _refusals(name):
            info = HfApi().dataset_info(name, revision=revision, timeout=INFO_SECONDS)
        license_ = info.card_data.get("license") if info.card_data else None
        return HubDataset(name, subset, split, info.sha or revision, str(license_ or "unknown"))

    def rows(self, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        """Rows in the order of the files, with `columns` only. The first column must exist; others may be missing.

        Raises ConfigError for a missing first column, DataError for an unreadable row, EnvironmentFault for a hub that
        does not answer.
        """
        with _refusals(self.name):
            rows = datasets.load_dataset(
                self.name, self.subset, split=self.split, revision=self.revision, streaming=True
            )
            # None for formats whose columns are only known once a row is read, such as JSON lines.
            if rows.column_names is not None:
                rows = rows.select_columns([column for column in columns if column in rows.column_names])
            for row in rows:
                if columns[0] not in row:
                    raise ConfigError(
                        f"Hub dataset {self.name} has no column {columns[0]!r}.",
                        remedy="Set field to the column with the text.",
                    )
                yield row

    def records(self, field: str) -> Iterator[Record]:
        """The rows as records, numbered from 1; `field` is the column with the text."""
        for number, row in enumerate(self.rows((field, "id")), start=1):
            name = row.get("id")
            yield Record(self.name, number, "text", row[field], "" if name is None else str(name))


@contextmanager
def _refusals(name: str) -> Iterator[None]:
    """Turn what the hub and `datasets` raise into refusals with a remedy."""
    try:
        yield
    except GatedRepoError:
        raise ConfigError(f"Hub dataset {name} is gated.", remedy="Accept its terms and set HF_TOKEN.") from None
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ConfigError(
            f"Hub dataset {name}: {_first_line(error)}.", remedy="Check hub and revision, or set HF_TOKEN."
        ) from None
    # Before ValueError, of which UnicodeDecodeError and most Arrow errors are subclasses.
    except (pa.ArrowException, UnicodeDecodeError, datasets.exceptions.DatasetGenerationError) as error:
        raise DataError(
            f"Hub dataset {name} holds a row that `datasets` cannot read: {_first_line(error)}.",
            remedy="Fetch its files and give them as path: a bad line is then set aside, not fatal.",
        ) from None
    except (ValueError, RuntimeError) as error:  # how `datasets` names an unknown subset or split
        raise ConfigError(f"Hub dataset {name}: {_first_line(error)}.", remedy="Check subset and split.") from None
    except (OSError, TransportError) as error:
        raise EnvironmentFault(
            f"Hub dataset {name}: {_first_line(error)}.",
            remedy="Check the network (and HF_ENDPOINT) and run again, or give a local path instead of hub.",
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
