"""Addresses as they may be shown and kept: without user, password and the values of their query.

Below everything else, because every error message passes through here: whatever library wrote it, and whoever quotes
it, no message repeats what lets somebody in.
"""

from __future__ import annotations

import re

MASK = "***"
# An address within a text. A quote ends it, unless more of the address follows.
_ADDRESS = re.compile(r"""[A-Za-z][A-Za-z0-9+.-]{0,19}://(?:[^\s'"<>`]|['"`](?=[\w%]))+""")
_CLOSING = ".,:;!)]"  # what ends a sentence or a bracket around an address, not the address
# The tail of an address whose beginning a library left out, as in "url: /texts.jsonl?token=...".
_QUERY_VALUE = re.compile(r"""([?&][\w.~%-]+=)([^\s&'"<>`]+)""")
_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")


def without_secrets(address: str) -> str:
    """The address without what lets somebody in; a text that is no address stays as it is.

    A value that is a variable of the environment stays, because the config was written so that it could be shown.

    >>> without_secrets("https://me:secret@example.org/texts.jsonl?token=secret&part=${PART}#top")
    'https://example.org/texts.jsonl?token=***&part=${PART}'
    >>> without_secrets("texts/*.txt")
    'texts/*.txt'
    """
    scheme, found, rest = address.partition("://")
    if not found:
        return address
    host, path, query = _parts(rest)
    shown = "&".join(_masked(pair) for pair in re.split("[&;]", query))
    return f"{scheme}://{host}{path}{'?' if query else ''}{shown}"


def without_secrets_in(text: str) -> str:
    """A text, such as a message of a library, with each address in it as `without_secrets` gives it.

    >>> without_secrets_in("GET https://me:secret@example.org/a?token=secret: 404 (url: /a?token=secret)")
    'GET https://example.org/a?token=***: 404 (url: /a?token=***)'
    """
    return _QUERY_VALUE.sub(_masked_value, _ADDRESS.sub(_masked_address, text))


def user_and_address(address: str) -> tuple[str, str]:
    """What stands before the @ of an address, such as "me:secret", empty without one; and the address without it."""
    scheme, found, rest = address.partition("://")
    user, at, _ = _authority(rest).rpartition("@") if found else ("", "", "")
    return user, f"{scheme}{found}{rest[len(user + at) :]}"


def _parts(rest: str) -> tuple[str, str, str]:
    """Host, path and query of what follows "://"."""
    authority = _authority(rest)
    port = authority.rpartition(":")[2]
    if "@" in authority:
        rest = rest[authority.rindex("@") + 1 :]
    elif ":" in authority and not (port.isdecimal() or port.endswith("]")) and "@" in rest:
        rest = rest.rpartition("@")[2]  # a password that holds one of / ? #, which cannot be opened, only shown
    rest, _, _ = rest.partition("#")
    before, _, query = rest.partition("?")
    host = _authority(before)
    return host, before[len(host) :], query


def _authority(rest: str) -> str:
    return re.split("[/?#]", rest, maxsplit=1)[0]


def _masked(pair: str) -> str:
    name, equals, value = pair.partition("=")
    if not equals:  # a token may stand there without a name
        return pair if not pair or _VARIABLE.fullmatch(pair) else MASK
    return f"{name}={value if _VARIABLE.fullmatch(value) else MASK}"


def _masked_address(match: re.Match[str]) -> str:
    address = match[0].rstrip(_CLOSING)
    return without_secrets(address) + match[0][len(address) :]


def _masked_value(match: re.Match[str]) -> str:
    value = match[2].rstrip(_CLOSING)
    return match[1] + (value if _VARIABLE.fullmatch(value) else MASK) + match[2][len(value) :]
