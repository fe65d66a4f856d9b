"""What became another text between two looks, in words: from the records that artifacts keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NAMES_SHOWN = 3
COMMIT_CHARACTERS = 7

Record = Mapping[str, Any]  # as `OutsideText.record` writes it


def changes(old: Mapping[str, Record], new: Mapping[str, Record]) -> list[str]:
    """What differs between the texts of an artifact and those of now, a phrase for each that changed.

    A text that only one side has is left out: then the config has other sources, and says so itself.
    """
    if _stand_in(new) != _stand_in(old):
        return [f"{_shown(new)} {'takes' if len(new) == 1 else 'take'} the place of {_shown(old)}"]
    both = [name for name in new if name in old and old[name]["identity"] != new[name]["identity"]]
    return [phrase for name in both for phrase in _phrases(old[name], new[name])]


def _phrases(old: Record, new: Record) -> list[str]:
    if new["kind"] == old["kind"] == "hub":
        before, after = (record["identity"]["commit"][:COMMIT_CHARACTERS] for record in (old, new))
        return [f"{new['shown']}: commit {before} -> {after}"]
    if new["kind"] == old["kind"] == "files":
        return _file_phrases(new["shown"], old["identity"], new["identity"])
    return [f"{new['shown']} changed"]


def _file_phrases(shown: str, old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    added, removed = [name for name in new if name not in old], [name for name in old if name not in new]
    changed = [name for name in new if name in old and new[name] != old[name]]
    # A source of one file is called by it.
    if not added and not removed and shown in changed:
        return [f"{shown} changed"]
    verbs = (("added", added), ("removed", removed), ("changed", changed))
    return [_phrase(shown, verb, names) for verb, names in verbs if names]


def _phrase(shown: str, verb: str, names: Sequence[str]) -> str:
    number = f"{len(names):,} {'file' if len(names) == 1 else 'files'}"
    be = "" if verb == "changed" else "was " if len(names) == 1 else "were "
    return f"{number} of {shown} {be}{verb} ({_listed(names)})"


def _stand_in(records: Mapping[str, Record]) -> bool:
    return any(record["kind"] == "installed" for record in records.values())


def _shown(records: Mapping[str, Record]) -> str:
    return _listed([str(record["shown"]) for record in records.values()])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (", ..." if len(names) > NAMES_SHOWN else "")
