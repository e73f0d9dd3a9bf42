"""What is done to a valid file: bits, lengths, pieces and the words of its format."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from random import Random

EDGES = (0, 1, 2, 3, 127, 128, 255, 256, 2**15, 2**16 - 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
NUMBERS = (b"0", b"-1", b"1e400", b"NaN", b"1" + b"0" * 40, b"9" * 20, b"4294967296", b"2147483648", b"1.5", b"[]")
PNG_START = b"\x89PNG\r\n\x1a\n"

Mutation = Callable[[bytearray, Random, Sequence[bytes]], None]


def mutated(data: bytes, random: Random, words: Sequence[bytes]) -> bytes:
    """One to four changes of `data`, drawn by `random`; `words` are pieces that its format knows, and other seeds."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 4))):
        random.choice(MUTATIONS)(changed, random, words)
    return bytes(changed)


def flip_bit(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def set_byte(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    if data:
        data[random.randrange(len(data))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def set_integer(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    """Overwrite what may be a length, a count or a position."""
    size = random.choice((2, 4, 8))
    value = random.choice((*EDGES, len(data), random.randrange(2 ** (8 * size)))) % 2 ** (8 * size)
    start = random.randrange(max(1, len(data)))
    data[start : start + size] = struct.pack(random.choice("<>") + {2: "H", 4: "I", 8: "Q"}[size], value)


def set_number(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    """Replace a decimal number, of which headers in text have many."""
    starts = [i for i in range(len(data)) if 48 <= data[i] <= 57 and (i == 0 or not 48 <= data[i - 1] <= 57)]
    if starts:
        start = stop = random.choice(starts)
        while stop < len(data) and 48 <= data[stop] <= 57:
            stop += 1
        data[start:stop] = random.choice((*NUMBERS, str(random.randrange(10**6)).encode()))


def cut(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    del data[random.randrange(len(data) + 1) :]


def remove(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    start, stop = _span(data, random)
    del data[start:stop]


def repeat(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    start, stop = _span(data, random)
    data[stop:stop] = data[start:stop] * random.choice((1, 2, 50))


def move(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    start, stop = _span(data, random)
    place = random.randrange(len(data) + 1)
    data[place : place + stop - start] = data[start:stop]


def insert_word(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    place = random.randrange(len(data) + 1)
    data[place:place] = random.choice(words)


def overwrite_word(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    word = random.choice(words)
    place = random.randrange(len(data) + 1)
    data[place : place + len(word)] = word


def exchange_word(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    """Put one word of the format where another one stands."""
    present = [word for word in words if 0 < len(word) < len(data) and word in data]
    if present:
        word = random.choice(present)
        start = data.index(word)
        data[start : start + len(word)] = random.choice(words)


def splice(data: bytearray, random: Random, words: Sequence[bytes]) -> None:
    """End as another seed does."""
    other = max(random.choice(words), random.choice(words), key=len)
    data[random.randrange(len(data) + 1) :] = other[random.randrange(len(other) + 1) :]


MUTATIONS: Sequence[Mutation] = (
    flip_bit,
    flip_bit,
    set_byte,
    set_byte,
    set_integer,
    set_integer,
    set_number,
    set_number,
    cut,
    remove,
    repeat,
    move,
    insert_word,
    overwrite_word,
    exchange_word,
    splice,
)


def png_with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks have the checksums of what they hold, so that a decoder looks at it."""
    fixed, place = bytearray(data[:8]), 8
    while place + 8 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        stop = min(place + 8 + length, len(data))
        fixed += data[place:stop] + struct.pack(">I", zlib.crc32(data[place + 4 : stop]))
        place = stop + 4
    return bytes(fixed)


def _span(data: bytearray, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 2, 4, 16, 64, 512)))
