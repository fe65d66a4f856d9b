"""The commit that a branch or tag of a Hugging Face dataset points to, and the license on its card."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import ConfigError, EnvironmentFault

INFO_SECONDS = 5.0
COMMIT = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


class HubCommit(NamedTuple):
    """What the hub says of a dataset."""

    commit: str
    license: str


def hub_commit(name: str, revision: str) -> HubCommit:
    """Ask the hub. Raises ConfigError if the dataset is not there, EnvironmentFault if the hub does not answer."""
    from huggingface_hub import HfApi  # half a second, which runs without a hub dataset do not pay

    with hub_refusals(name):
        info = HfApi().dataset_info(name, revision=revision, timeout=INFO_SECONDS)
    license_ = info.card_data.get("license") if info.card_data else None
    return HubCommit(info.sha or revision, str(license_ or "unknown"))


def refuse_local_folder(name: str, folder: Path, where: str) -> None:
    """Raise ConfigError if `name` is a path: `datasets` would read a folder of that name instead of the hub's."""
    found = [place for place in (folder / name, Path(name)) if os.path.lexists(place)]
    if not found and NAME.fullmatch(name):
        return
    if not found:
        raise ConfigError(
            f"{where}: hub {name!r} is not the name of a dataset.",
            remedy="Write OWNER/NAME as the hub shows it, or path: for files on this machine.",
        )
    is_folder = found[0].is_dir()
    pattern = f"{name.rstrip('/')}/*" if is_folder else name
    raise ConfigError(
        f"{where}: hub {name!r} is a {'folder' if is_folder else 'file'} here.",
        remedy=f'Write path: "{pattern}" for what is in it; for a dataset of the hub, move it out of the way.',
    )


@contextmanager
def hub_refusals(name: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into refusals with a remedy."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    # What the HTTP library raises when the transport fails. Found through a base class, because huggingface_hub has
    # changed that library twice: requests, httpx, httpx2.
    transport_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        yield
    except GatedRepoError:
        raise ConfigError(f"Hub dataset {name} is gated.", remedy="Accept its terms and set HF_TOKEN.") from None
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ConfigError(
            f"Hub dataset {name}: {first_line(error)}.", remedy="Check hub and revision, or set HF_TOKEN."
        ) from None
    except (OSError, transport_error) as error:
        raise EnvironmentFault(
            f"Hub dataset {name}: {first_line(error)}.",
            remedy="Check the network (and HF_ENDPOINT) and run again, or give a local path instead of hub.",
        ) from None


def first_line(error: Exception) -> str:
    """The first line of an error's text, without its full stop; the name of its kind if it has none."""
    return (str(error).strip() or type(error).__name__).partition("\n")[0].rstrip(".")
