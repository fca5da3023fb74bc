"""Ways to break sound files: a few wounds to their bytes, or to what they say."""

import copy
import json
import random
import struct
from collections.abc import Iterator
from typing import Any

HOSTILE: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 8, 2**31, 2**63, 2**64, -(2**63), 10**30, 1.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "8", "-1", "true", "null", "NaN", "\0", "\ud800", "\u2028"),
    *("../../etc/passwd", "/etc/passwd", "a\nb", "<script>", "{", "{text}", "{text!r}", "\x1b[2J"),
    *("%s%n", "gpt2", "lora", "F32", "I64", "BOOL", "x" * 5000, "~nobody-here/x", "a" * 300),
    *([], {}, [[]], [None], {"": ""}, {"a": 1}, [1, 2], [0, 2**62], [-1, -1], {"kind": "lora"}),
]
SNIPPETS = [
    *(b"\0", b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf0\x9f", b"\r", b"\n", b"\r\n", b'"', b"'"),
    *(b"{", b"}", b"[", b"]", b",", b":", b"- ", b"\t", b"&a ", b"*a", b"<<: ", b"!!int ", b"? "),
    *(b"\\ud800", b"\\u0000", b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"[" * 2000, b"{" * 40),
    *(b'{"a":' * 2000, b"\xef\xbb\xbf", b"\x1f\x8b", b"#", b"|", b">", b"%", b"@", b"`", b"=1"),
]


def bytes_broken(chance: random.Random, content: bytes) -> bytes:
    """Return a file with one to four wounds."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        length = chance.choice([1, 1, 2, 8, 64, 1000])
        wound = chance.randrange(7)
        if wound == 0 and data:
            data[at % len(data)] ^= 1 << chance.randrange(8)
        elif wound == 1:
            del data[at : at + length]
        elif wound == 2:
            data[at:at] = chance.choice(SNIPPETS)
        elif wound == 3:
            data[at : at + length] = chance.randbytes(length)
        elif wound == 4:
            data[at:at] = data[: chance.randrange(len(data) + 1)][-1000:]
        elif wound == 5:
            data[at : at + 4] = chance.choice(SNIPPETS)
        else:
            del data[at:]
    return bytes(data)


def values_broken(chance: random.Random, values: Any) -> Any:
    """Return a JSON value in which one to three parts are others, missing, doubled or renamed."""
    values = copy.deepcopy(values)
    for _ in range(chance.randint(1, 3)):
        places = list(_places(values))
        if not places:
            return chance.choice(HOSTILE)
        inside, key = chance.choice(places)
        change = chance.randrange(5)
        if change == 0:
            del inside[key]
        elif change == 1:
            inside[key] = copy.deepcopy(
                chance.choice([one[k] for one, k in places if k in _keys(one)])
            )
        elif change == 2 and isinstance(inside, dict):
            inside[str(chance.choice(HOSTILE))[:50]] = inside.pop(key)
        else:
            inside[key] = copy.deepcopy(chance.choice(HOSTILE))
    return values


def _places(values: Any) -> Iterator[tuple[Any, Any]]:
    for key in _keys(values):
        yield values, key
        yield from _places(values[key])


def _keys(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return list(values)
    return list(range(len(values))) if isinstance(values, list) else []


def as_json(chance: random.Random, values: Any) -> bytes:
    """Return broken values as JSON, or sound ones as broken JSON."""
    if chance.random() < 0.3:
        return bytes_broken(chance, json.dumps(values).encode())
    return json.dumps(values_broken(chance, values)).encode()


def safetensors_broken(chance: random.Random, content: bytes) -> bytes:
    """Return a safetensors file whose header lies, is torn or is of another size."""
    (length,) = struct.unpack("<Q", content[:8])
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    torn = chance.randrange(6)
    if torn == 0:
        return bytes_broken(chance, content)
    if torn == 1:
        return (
            chance.choice([0, 1, length - 1, 2**31, 2**63, 2**64 - 1]).to_bytes(8, "little")
            + content[8:]
        )
    if torn == 2:
        names = [name for name in header if name != "__metadata__"]
        begin = chance.choice([0, -1, 1, 2**40, 2**64, len(body)])
        lie = {
            "data_offsets": [begin, chance.choice([begin, begin + 4, 2**63, len(body) + 1])],
            "shape": chance.choice(
                [[], [0], [2**62, 4], [2**32, 2**32], [1] * 70, [-1, 4], [0, 2**63]]
            ),
            "dtype": chance.choice(["F64", "F8_E4M3", "F4", "I8", "U64", "C64", "F32", "X", ""]),
        }
        fields = chance.sample(list(lie), chance.randint(1, 3))
        header[chance.choice(names)].update({field: lie[field] for field in fields})
        text = json.dumps(header).encode()
    else:
        text = as_json(chance, header)
    return struct.pack("<Q", len(text)) + text + body
