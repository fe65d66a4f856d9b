"""Names of text encodings in a config, checked when it is read and spelt one way."""

from __future__ import annotations

import codecs
from typing import Annotated

from pydantic import BeforeValidator

# Python calls them encodings of text, but no file of text is stored in them.
NOT_OF_FILES = {"idna", "punycode", "raw_unicode_escape", "raw-unicode-escape", "unicode_escape", "unicode-escape"}


def encoding_name(value: object) -> str | None:
    """Python's own name of an encoding: "cp1252" for "Windows-1252". None stays None. Raises ValueError otherwise."""
    if value is None:
        return None
    try:
        name = codecs.lookup(str(value)).name
        # Codecs such as base64 are found too, and refuse to decode text; `undefined` refuses everything.
        b"a".decode(name, "replace")
    # ValueError for a name with a zero byte, and UnicodeError is one.
    except (LookupError, ValueError):
        name = ""
    if not name or name in NOT_OF_FILES:
        raise ValueError(f"{value!r} is not a text encoding that Python knows, such as cp1252, latin-1 or utf-16-le")
    return name


Encoding = Annotated[str | None, BeforeValidator(encoding_name)]
