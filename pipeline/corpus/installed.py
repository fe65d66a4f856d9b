"""Text that every installation has, for a demonstration without any data: never a result worth quoting."""

from __future__ import annotations

from pydoc_data import topics


def language_reference() -> str:
    """Python's language reference as `help()` shows it, about 465 kB."""
    return "\n\n".join(text.strip() for _, text in sorted(topics.topics.items())) + "\n"
