"""Assembler of the WebAssembly text format, as much of it as page/kernel.wat needs: text -> the bytes of a module."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

Tree = str | list["Tree"]

_TOKEN = re.compile(r';;[^\n]*|"[^"]*"|[()]|[^\s()";]+')
_TYPES = {"i32": 0x7F, "f32": 0x7D, "v128": 0x7B}
_EMPTY_BLOCK = 0x40
_INDEXED = {"local.get": 0x20, "local.set": 0x21, "local.tee": 0x22}
_PLAIN = {
    "i32.lt_u": 0x49,
    "i32.add": 0x6A,
    "i32.sub": 0x6B,
    "i32.mul": 0x6C,
    "i32.shl": 0x74,
    "i32.shr_u": 0x76,
    "f32.sqrt": 0x91,
    "f32.add": 0x92,
    "f32.div": 0x95,
    "f32.max": 0x97,
    "f32.convert_i32_u": 0xB3,
}
_SIMD = {  # behind the byte 0xFD
    "i32x4.splat": 0x11,
    "f32x4.splat": 0x13,
    "i32x4.shl": 0xAB,
    "i32x4.add": 0xAE,
    "f32x4.neg": 0xE1,
    "f32x4.add": 0xE4,
    "f32x4.sub": 0xE5,
    "f32x4.mul": 0xE6,
    "f32x4.div": 0xE7,
    "f32x4.max": 0xE9,
    "f32x4.pmin": 0xEA,
    "f32x4.pmax": 0xEB,
    "f32x4.relaxed_madd": 0x105,
}
_MEMORY = {"v128.load": (0x00, 4), "v128.load32_splat": (0x09, 2), "v128.store": (0x0B, 4)}  # and log2 of the alignment


def assemble(text: str, *, relaxed: bool) -> bytes:
    """The module of a text in the folded form of the WebAssembly text format.

    relaxed: keep `f32x4.relaxed_madd`, which rounds once where the processor can; else write a product and a sum in its
    place, which every browser with SIMD has. Raises ValueError for what is not known here.
    """
    module = _parse(text) if relaxed else _without_madd(_parse(text))
    if not isinstance(module, list) or module[0] != "module":
        raise ValueError("not a module")
    fields = [field for field in module[1:] if isinstance(field, list)]
    imports = [field for field in fields if field[0] == "import"]
    functions = [_Function(field) for field in fields if field[0] == "func"]
    if len(imports) + len(functions) != len(fields):
        raise ValueError("a module here has imports and functions only")
    indices = {function.name: number for number, function in enumerate(functions) if function.name}
    exports = [
        _name(function.export) + b"\x00" + _leb(number) for number, function in enumerate(functions) if function.export
    ]
    sections = [
        (1, [function.type for function in functions]),
        (2, [_memory_import(field) for field in imports]),
        (3, [_leb(number) for number in range(len(functions))]),
        (7, exports),
        (10, [_sized(function.body(indices)) for function in functions]),
    ]
    return b"\0asm\x01\0\0\0" + b"".join(bytes([number]) + _sized(_vector(items)) for number, items in sections)


class _Function:
    """A function: its names, its type and its locals, and its body once all functions are known."""

    def __init__(self, field: list[Tree]) -> None:
        self.name = self.export = ""
        self.locals: dict[str, str] = {}
        params, results, declared = list[str](), list[str](), list[str]()
        self._instructions: list[Tree] = []
        for part in field[1:]:
            if isinstance(part, str):
                self.name = part
            elif part[0] == "export":
                self.export = str(part[1]).strip('"')
            elif part[0] in ("param", "local"):
                self.locals[str(part[1])] = str(part[2])
                (params if part[0] == "param" else declared).append(str(part[2]))
            elif part[0] == "result":
                results.append(str(part[1]))
            else:
                self._instructions.append(part)
        types = [_vector([bytes([_TYPES[name]]) for name in names]) for names in (params, results)]
        self.type = b"\x60" + b"".join(types)
        self._declared = _vector([b"\x01" + bytes([_TYPES[name]]) for name in declared])

    def body(self, functions: dict[str, int]) -> bytes:
        places = {name: number for number, name in enumerate(self.locals)}
        code = b"".join(_code(part, places, functions, ()) for part in self._instructions)
        return self._declared + code + b"\x0b"


def _code(tree: Tree, places: dict[str, int], functions: dict[str, int], labels: tuple[str, ...]) -> bytes:
    """The bytes of an instruction and of its operands, which come first. labels: of the blocks around, inmost first."""
    if isinstance(tree, str):
        raise ValueError(f"{tree} must be in brackets")
    name, *rest = tree
    operands = [part for part in rest if isinstance(part, list)]
    words = [part for part in rest if isinstance(part, str)]

    def all_of(parts: list[Tree], inside: tuple[str, ...] = labels) -> bytes:
        return b"".join(_code(part, places, functions, inside) for part in parts)

    if name == "loop":
        return bytes([0x03, _EMPTY_BLOCK]) + all_of(list(operands), (words[0], *labels)) + b"\x0b"
    if name == "if":
        *condition, then = operands
        return all_of(list(condition)) + bytes([0x04, _EMPTY_BLOCK]) + all_of(then[1:], ("", *labels)) + b"\x0b"
    before = all_of(list(operands))
    if name == "br_if":
        return before + b"\x0d" + _leb(labels.index(words[0]))
    if name == "call":
        return before + b"\x10" + _leb(functions[words[0]])
    if name == "i32.const":
        return before + b"\x41" + _signed_leb(int(words[0]))
    if name == "f32.const":
        return before + b"\x43" + struct.pack("<f", float(words[0]))
    if name == "f32x4.extract_lane":
        return before + b"\xfd\x1f" + bytes([int(words[0])])
    if name in _INDEXED:
        return before + bytes([_INDEXED[str(name)]]) + _leb(places[words[0]])
    if name in _MEMORY:
        opcode, alignment = _MEMORY[str(name)]
        offset = int(words[0].removeprefix("offset=")) if words else 0
        return before + b"\xfd" + _leb(opcode) + _leb(alignment) + _leb(offset)
    if name in _SIMD:
        return before + b"\xfd" + _leb(_SIMD[str(name)])
    if name in _PLAIN:
        return before + bytes([_PLAIN[str(name)]])
    raise ValueError(f"unknown instruction {name}")


def _without_madd(tree: Tree) -> Tree:
    if isinstance(tree, str):
        return tree
    parts = [_without_madd(part) for part in tree]
    if parts[0] == "f32x4.relaxed_madd":
        return ["f32x4.add", ["f32x4.mul", parts[1], parts[2]], parts[3]]
    return parts


def _parse(text: str) -> Tree:
    tokens = (token for token in _TOKEN.findall(text) if not token.startswith(";;"))
    return _list(tokens) if next(tokens) == "(" else ""


def _list(tokens: Iterator[str]) -> list[Tree]:
    """The rest of a list whose opening bracket has been read."""
    parts: list[Tree] = []
    for token in tokens:
        if token == ")":
            return parts
        parts.append(_list(tokens) if token == "(" else token)
    raise ValueError("a bracket is not closed")


def _memory_import(field: list[Tree]) -> bytes:
    _, module, name, memory = field
    return _name(str(module).strip('"')) + _name(str(name).strip('"')) + b"\x02\x00" + _leb(int(str(memory[1])))


def _name(text: str) -> bytes:
    return _sized(text.encode())


def _vector(items: list[bytes]) -> bytes:
    return _leb(len(items)) + b"".join(items)


def _sized(content: bytes) -> bytes:
    return _leb(len(content)) + content


def _leb(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def _signed_leb(number: int) -> bytes:
    out = bytearray()
    while not -0x40 <= number < 0x40:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number & 0x7F])
