"""What can become of a file, and what is to be said of it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

BITS = 6
"""Bits that are flipped in each file, one at a time, in the fast suite."""


def damaged(content: bytes, bits: int) -> Iterator[tuple[str, bytes | None]]:
    """What can become of a file, with a name for each."""
    yield "removed", None
    yield "emptied", b""
    yield "halved", content[: len(content) // 2]
    yield "short of a byte", content[:-1]
    for i in range(bits):
        place = (len(content) * (2 * i + 1) // (2 * bits)) if bits <= BITS else random.randrange(len(content))
        flipped = bytearray(content)
        flipped[place] ^= 1 << random.randrange(8)
        yield f"with a bit flipped in byte {place} of {len(content)}", bytes(flipped)


def assert_one_sentence(message: str, file: Path) -> None:
    assert file.name in message, message
    assert len(message.splitlines()) == 1, message
    assert "damaged" in message or "does not exist" in message or "no result.json" in message, message
