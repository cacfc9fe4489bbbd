"""Object files into memory, ready to be called.

    image = link({"a": object_bytes, …}, {"tessel_barrier": address})
    image.address("tessel_main")

Compiled kernels are plain: one function, constants, calls by name. For those of x86-64 Linux this
file does all that linking takes (ELF relocatable objects, System V ABI for AMD64, chapter 4), so
that running a package loads no LLVM. Everything else goes through LLVM's own linker.

Code and constants end up readable and executable, variables readable and writable; nothing is both
writable and executable.
"""

import ctypes
import mmap
import platform
import struct
import sys
import weakref
from collections.abc import Mapping
from typing import Protocol

PLAIN = sys.platform == "linux" and platform.machine() == "x86_64" and sys.maxsize > 1 << 32

_PAGE = mmap.PAGESIZE
_ALIGN = 64  # bytes, at least: functions begin at cache lines
_PROGBITS, _SYMTAB, _RELA, _NOBITS = 1, 2, 4, 8  # types of sections
_WRITE, _ALLOC = 1, 2  # flags of sections
_RELA_ENTRY, _SYMBOL = struct.Struct("<QIIq"), struct.Struct("<IBBHQQ")
_SECTION, _HEADER = struct.Struct("<IIQQQQIIQQ"), struct.Struct("<16sHHIQQQIHHHHHH")
_R_64, _R_PC32, _R_PLT32 = 1, 2, 4  # relocations
_R_GOT = (9, 41, 42)  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX: from where an address is kept
# A stub is `jmp *2(%rip)`, two bytes, and the address: calls reach 2 GiB, libraries lie anywhere.
_JUMP = bytes([0xFF, 0x25, 2, 0, 0, 0, 0, 0])
_STUB, _STUB_ADDRESS = 16, 8


class Image(Protocol):
    """Linked code; in memory for as long as this object lives."""

    def address(self, name: str) -> int:
        """Where a function or variable lies."""

    def keep(self) -> None:
        """Leave it in memory until the process ends, also after this object."""


def link(objects: Mapping[str, bytes], symbols: Mapping[str, int]) -> Image:
    """Link object files with each other, `symbols` and the libraries of the process."""
    if PLAIN:
        try:
            return _Linked(objects, symbols)
        except _Unusual:
            pass
    return _Jit(objects, symbols)


class _Unusual(Exception):
    """These objects use something that is left to LLVM."""


class _Jit:
    """Linked by LLVM."""

    def __init__(self, objects: Mapping[str, bytes], symbols: Mapping[str, int]):
        import llvmlite.binding as llvm

        from ...compiler.backends.llvm.base.target import initialize

        initialize()
        for name, address in symbols.items():
            llvm.add_symbol(name, address)
        tm = llvm.Target.from_default_triple().create_target_machine(opt=0, jit=True)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), tm)
        for data in objects.values():
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(data))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        # Mach-O's names begin with "_", which the engine adds for functions.
        engine = self._engine
        return engine.get_function_address(name) or engine.get_global_value_address(name)

    def keep(self) -> None:
        self._engine.detach()


class _Linked:
    """Linked here."""

    def __init__(self, objects: Mapping[str, bytes], symbols: Mapping[str, int]):
        try:
            parsed = [_Object(data) for data in objects.values()]
        except (struct.error, ValueError, IndexError) as error:
            raise ValueError(f"this is no object file: {error}") from None
        defined = {n for o in parsed for n in o.defined}
        undefined = {n for o in parsed for n in o.undefined} - defined
        outside = {n: symbols.get(n) or _library_symbol(n) for n in undefined}
        stubbed = sorted(undefined.union(*(o.kept for o in parsed)))
        stubs = _place(parsed, 0, writable=False)
        code = stubs + len(stubbed) * _STUB
        size = _place(parsed, -(-code // _PAGE) * _PAGE, writable=True)
        self._base = base = _map(size)
        self._unmap = weakref.finalize(self, _unmap, base, size)
        self._unmap.atexit = False  # threads may still be running it
        self._symbols = {n: base + a for o in parsed for n, a in o.addresses()}
        addresses = outside | self._symbols
        places = {n: base + stubs + i * _STUB for i, n in enumerate(stubbed)}
        for name, at in places.items():
            ctypes.memmove(at, _JUMP + addresses[name].to_bytes(8, "little"), _STUB)
        for o in parsed:
            o.write(base, places, places | self._symbols)
        _protect(base, -(-code // _PAGE) * _PAGE, mmap.PROT_READ | mmap.PROT_EXEC)

    def address(self, name: str) -> int:
        return self._symbols[name]

    def keep(self) -> None:
        self._unmap.detach()


class _Object:
    """One ELF object: its sections that take memory, its symbols and relocations.

    `undefined` are names that it calls, `kept` those whose address it reads from memory;
    `places` the sections' offsets in the image, by number, set by `_place`.
    """

    def __init__(self, data: bytes):
        header = _HEADER.unpack_from(data)
        if header[0][:6] != b"\x7fELF\x02\x01" or header[1] != 1 or header[2] != 62:
            raise _Unusual  # not 64 bit, little-endian, relocatable, x86-64
        self.data, start, count = data, header[6], header[12]
        self.sections = [_SECTION.unpack_from(data, start + i * 64) for i in range(count)]
        names = self.sections[header[13]]
        self.memory = [
            i
            for i, s in enumerate(self.sections)
            if s[2] & _ALLOC
            and s[1] in (_PROGBITS, _NOBITS)
            and not self._text(names, s[0]).startswith(b".eh_frame")  # nobody unwinds this code
        ]
        self.places: dict[int, int] = {}
        (table,) = (s for s in self.sections if s[1] == _SYMTAB)
        strings = self.sections[table[6]]
        self.symbols = list(_SYMBOL.iter_unpack(data[table[4] : table[4] + table[5]]))
        self.names = [self._text(strings, s[0]).decode() for s in self.symbols]
        named = [(n, s) for n, s in zip(self.names, self.symbols) if n and s[1] >> 4]
        self.undefined = [n for n, s in named if s[3] == 0]
        self.defined = {n: s for n, s in named if 0 < s[3] < 0xFF00}
        self.relocations = [
            (s[7], list(_RELA_ENTRY.iter_unpack(data[s[4] : s[4] + s[5]])))
            for s in self.sections
            if s[1] == _RELA and s[7] in self.memory
        ]
        self.kept = {
            self.names[number]
            for _, entries in self.relocations
            for _, kind, number, _ in entries
            if kind in _R_GOT
        }

    def _text(self, section: tuple, at: int) -> bytes:
        start = section[4] + at
        return self.data[start : self.data.index(b"\0", start)]

    def addresses(self) -> list[tuple[str, int]]:
        """(name, offset in the image) of what others may refer to."""
        return [(n, self.places[s[3]] + s[4]) for n, s in self.defined.items()]

    def write(self, base: int, stubs: Mapping[str, int], where: Mapping[str, int]) -> None:
        """Copy the sections to the image at `base` and fill in addresses: `where` a name is to be
        called, and the `stubs`, which keep addresses."""
        for i in self.memory:
            _, kind, _, _, offset, size, *_ = self.sections[i]
            if kind == _PROGBITS:
                if offset + size > len(self.data):
                    raise ValueError("this object file is cut off")
                ctypes.memmove(base + self.places[i], self.data[offset : offset + size], size)
        for section, entries in self.relocations:
            for entry in entries:
                self._relocate(base, section, entry, stubs, where)

    def _relocate(
        self, base: int, section: int, entry: tuple, stubs: Mapping, where: Mapping
    ) -> None:
        at, kind, number, addend = entry
        symbol, place = self.symbols[number], base + self.places[section] + at
        if at + (8 if kind == _R_64 else 4) > self.sections[section][5]:
            raise ValueError("this object file is damaged")
        if kind in _R_GOT:
            value = stubs[self.names[number]] + _STUB_ADDRESS
        elif 0 < symbol[3] < 0xFF00:
            value = base + self.places[symbol[3]] + symbol[4]
        else:
            value = where[self.names[number]]  # of another object, or of a library
        if kind == _R_64:
            ctypes.c_uint64.from_address(place).value = value + addend
        elif kind in (_R_PC32, _R_PLT32, *_R_GOT):
            ctypes.c_int32.from_address(place).value = value + addend - place
        else:
            raise _Unusual


def _place(objects: list[_Object], at: int, writable: bool) -> int:
    """Give sections their offsets from `at`; where they end."""
    for o in objects:
        for i in o.memory:
            section = o.sections[i]
            if bool(section[2] & _WRITE) == writable:
                align = max(section[8], _ALIGN)
                o.places[i] = -(-at // align) * align
                at = o.places[i] + section[5]
    return -(-at // _ALIGN) * _ALIGN


# -- the process ---------------------------------------------------------------------------

if PLAIN:
    _process = ctypes.CDLL(None, use_errno=True)
    _process.mmap.restype = ctypes.c_void_p
    _process.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    _process.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    _process.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _library_symbol(name: str) -> int:
    try:
        return ctypes.cast(getattr(_process, name), ctypes.c_void_p).value or 0
    except AttributeError:
        raise _Unusual from None


def _map(size: int) -> int:
    """Zeroed memory that can be written."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    base = _process.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    if base in (None, ctypes.c_void_p(-1).value):
        raise MemoryError(f"no memory for {size} bytes of code")
    return base


def _protect(base: int, size: int, protection: int) -> None:
    if size and _process.mprotect(base, size, protection):
        raise _Unusual  # such memory is not allowed here; LLVM's linker may know another way


def _unmap(base: int, size: int) -> None:
    _process.munmap(base, size)
