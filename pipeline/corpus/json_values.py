"""The values of a file that is JSON but not JSON Lines: one array, or objects that are spread over several lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

STRUCTURE = re.compile(rb'["\[\]{},]')
IN_STRING = re.compile(rb'[^"\\]*(?:\\.[^"\\]*)*', re.DOTALL)
# How the first line of an object that is spread over several lines ends; a whole line of JSON Lines never does.
OPEN_ENDS = (b"{", b"[", b",", b":")


def is_spread(head: bytes) -> bool:
    """Whether a file that begins so is an array, or an object over several lines, rather than JSON Lines."""
    head = head.lstrip()
    first_line, newline, _ = head.partition(b"\n")
    is_open = head.startswith(b"{") and bool(newline) and first_line.rstrip().endswith(OPEN_ENDS)
    return is_open or head.startswith(b"[")


class UnclosedJson(Exception):
    """The file ends inside of a value."""


def split_values(pieces: Iterable[bytes], longest: int) -> Iterator[bytes | None]:
    """The bytes of each value: elements of an array, or objects that follow each other. `pieces` may cut anywhere.

    Only brackets and quotes are looked at: a value may be no JSON all the same, and is then the only one that is lost.
    None stands for a value of more than `longest` bytes, which is never held. Raises UnclosedJson at the end.
    """
    splitter = _Splitter(longest)
    for piece in pieces:
        yield from splitter.take(piece)
    yield from splitter.end()


class _Splitter:
    """Where in its structure a file is: `depth` counts the brackets that are open inside of the current value."""

    def __init__(self, longest: int) -> None:
        self.longest = longest
        self.depth = 0
        self.in_array = self.in_string = self.escaped = False
        self._held: list[bytes] = []
        self._held_bytes = 0

    def take(self, piece: bytes) -> Iterator[bytes | None]:
        """The values that end in this piece."""
        start = position = 0
        if self.escaped and piece:  # the piece before ended between a backslash and what it escapes
            position, self.escaped = 1, False
        while position < len(piece):
            if self.in_string:
                position = self._skip_string(piece, position)
                continue
            found = STRUCTURE.search(piece, position)
            if found is None:
                break
            position = found.end()
            before, after = self._step(found[0])
            if before is not None:
                yield from self._value(piece[start : found.end() - before])
            if after:
                start = position
        self._hold(piece[start:])

    def _step(self, sign: bytes) -> tuple[int | None, bool]:
        """How many bytes of the sign are outside of the value that it ends (None: it ends none); whether one begins."""
        if sign == b'"':
            self.in_string = True
        elif sign == b"," and self.depth == 0:
            return 1, True
        elif sign == b"[" and self.depth == 0 and not self.in_array:
            self.in_array = True
            return 1, True
        elif sign in b"[{":
            self.depth += 1
        elif sign in b"]}" and self.depth == 0:
            self.in_array = False
            return 1, True
        elif sign in b"]}":
            self.depth -= 1
            if self.depth == 0 and not self.in_array:
                return 0, True
        return None, False

    def _skip_string(self, piece: bytes, position: int) -> int:
        inside = IN_STRING.match(piece, position)
        assert inside is not None, "the pattern matches the empty string too"
        end = inside.end()
        if end < len(piece):
            self.in_string = piece[end : end + 1] == b"\\"
            self.escaped = self.in_string
            end += 1
        return end

    def _hold(self, rest: bytes) -> None:
        self._held_bytes += len(rest)
        self._held = [*self._held, rest] if self._held_bytes <= self.longest else []

    def _value(self, last: bytes) -> Iterator[bytes | None]:
        too_long = self._held_bytes + len(last) > self.longest
        value = b"" if too_long else b"".join((*self._held, last)).strip()
        self._held, self._held_bytes = [], 0
        if too_long or value:
            yield None if too_long else value

    def end(self) -> Iterator[bytes | None]:
        """What stands after the last value, if it is anything. Raises UnclosedJson."""
        if self.in_array or self.depth or self.in_string:
            raise UnclosedJson
        yield from self._value(b"")
