"""Programs compiled for another machine, linked without its libraries and run by an emulator.

    executable = link(codes, folder)
    findings = executable.run([Job(number, inputs, outputs), …])

An executable is the programs' objects and a runner in LLVM IR that needs no C library: it makes
its system calls by itself, which Linux numbers alike on AArch64 and RISC-V. It reads jobs from its
standard input until that ends:

    i64 program, i64 size, i64 given, i64 entries     bytes of memory, of which the first are given
    `given` bytes: the table of `entries` places, then outputs, inputs and weights

adds the address of its memory to each place of the table, runs the program on one thread and writes
the given bytes back. Arrays lie between spaces of CANARY: a store beside its array is found.
"""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
from tessel.compiler.backends.llvm.base.target import machine
from tessel.compiler.backends.llvm.kernel.objects import object_code
from tessel.compiler.backends.llvm.program.entry import main_module
from tessel.compiler.backends.llvm.program.native_code import MAIN, Layout, NativeCode
from tessel.compiler.kernels.machine import ALIGNMENT, Machine

FOREIGN = ("aarch64", "riscv64")
CANARY, SPACE = 0xA5, 64  # the byte between arrays, and how many of them at least
PATIENCE = 600  # seconds; a program that loops forever fails its test
HEADER = struct.Struct("<4q")
# The number of a system call goes to one register, its arguments to others.
SYSTEM_CALL = {
    "aarch64": ["mov x8, x0", *(f"mov x{i}, x{i + 1}" for i in range(6)), "svc #0", "ret"],
    "riscv64": ["mv a7, a0", *(f"mv a{i}, a{i + 1}" for i in range(6)), "ecall", "ret"],
}
RUNNER = """
target triple = "{triple}"
@programs = constant [{count} x ptr] [{pointers}]
{declarations}

define void @tessel_barrier(ptr %barrier, i64 %threads) {{ ret void }}
define i32 @clock_gettime(i32 %clock, ptr %moment) {{ ret i32 0 }}

define ptr @memset(ptr %to, i32 %value, i64 %count) {{
start:
  %byte = trunc i32 %value to i8
  br label %look
look:
  %i = phi i64 [0, %start], [%next, %more]
  %again = icmp ult i64 %i, %count
  br i1 %again, label %more, label %done
more:
  %place = getelementptr i8, ptr %to, i64 %i
  store volatile i8 %byte, ptr %place
  %next = add i64 %i, 1
  br label %look
done:
  ret ptr %to
}}

define ptr @memcpy(ptr %to, ptr %from, i64 %count) {{
start:
  br label %look
look:
  %i = phi i64 [0, %start], [%next, %more]
  %again = icmp ult i64 %i, %count
  br i1 %again, label %more, label %done
more:
  %source = getelementptr i8, ptr %from, i64 %i
  %place = getelementptr i8, ptr %to, i64 %i
  %byte = load volatile i8, ptr %source
  store volatile i8 %byte, ptr %place
  %next = add i64 %i, 1
  br label %look
done:
  ret ptr %to
}}

; call(number, six arguments)
declare i64 @call(i64, i64, i64, i64, i64, i64, i64)

; read (63) or write (64) all of the bytes; the end of the file or an error ends the process
define void @transfer(i64 %number, i64 %file, i64 %address, i64 %count, i64 %status) {{
start:
  br label %look
look:
  %done = phi i64 [0, %start], [%sum, %more]
  %rest = sub i64 %count, %done
  %finished = icmp eq i64 %rest, 0
  br i1 %finished, label %leave, label %more
more:
  %place = add i64 %address, %done
  %moved = call i64 @call(i64 %number, i64 %file, i64 %place, i64 %rest, i64 0, i64 -1, i64 0)
  %sum = add i64 %done, %moved
  %failed = icmp sle i64 %moved, 0
  br i1 %failed, label %give_up, label %look
give_up:
  call i64 @call(i64 93, i64 %status, i64 0, i64 0, i64 0, i64 -1, i64 0)
  unreachable
leave:
  ret void
}}

define void @_start() {{
start:
  %header = alloca [4 x i64], align 16
  %header_address = ptrtoint ptr %header to i64
  br label %job
job:
  call void @transfer(i64 63, i64 0, i64 %header_address, i64 32, i64 0)
  %program = load i64, ptr %header
  %size_at = getelementptr i64, ptr %header, i64 1
  %size = load i64, ptr %size_at
  %given_at = getelementptr i64, ptr %header, i64 2
  %given = load i64, ptr %given_at
  %entries_at = getelementptr i64, ptr %header, i64 3
  %entries = load i64, ptr %entries_at
  ; mmap(null, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
  %base = call i64 @call(i64 222, i64 0, i64 %size, i64 3, i64 34, i64 -1, i64 0)
  call void @transfer(i64 63, i64 0, i64 %base, i64 %given, i64 2)
  %table = inttoptr i64 %base to ptr
  br label %relocate
relocate:
  %i = phi i64 [0, %job], [%next, %relocate]
  %entry = getelementptr i64, ptr %table, i64 %i
  %offset = load i64, ptr %entry
  %address = add i64 %offset, %base
  store i64 %address, ptr %entry
  %next = add i64 %i, 1
  %more = icmp ult i64 %next, %entries
  br i1 %more, label %relocate, label %run
run:
  %which = getelementptr ptr, ptr @programs, i64 %program
  %main = load ptr, ptr %which
  call void %main(ptr %table, i64 0, i64 1, ptr null)
  call void @transfer(i64 64, i64 1, i64 %base, i64 %given, i64 3)
  call i64 @call(i64 215, i64 %base, i64 %size, i64 0, i64 0, i64 -1, i64 0)
  br label %job
}}
"""


def missing_tool(target: Machine) -> str | None:
    """Why programs for the target cannot be run here, or None."""
    arch = target.triple.split("-")[0]
    if emulator(arch) is None:
        return f"needs qemu-{arch} (on Debian: apt-get install qemu-user)"
    if shutil.which(f"{arch}-linux-gnu-ld") is None:
        return f"needs {arch}-linux-gnu-ld (on Debian: apt-get install binutils-{arch}-linux-gnu)"
    return None


def emulator(arch: str) -> str | None:
    return shutil.which(f"qemu-{arch}") or shutil.which(f"qemu-{arch}-static")


@dataclass
class Job:
    """One run of a program. `outputs` are what the memory holds before it, then the results."""

    program: int
    inputs: Sequence[np.ndarray]
    outputs: list[np.ndarray]


@dataclass(eq=False)
class Executable:
    """A file that the emulator runs. `codes` are its programs, by their numbers."""

    path: Path
    codes: Sequence[NativeCode]

    def run(self, jobs: Sequence[Job]) -> list[str | None]:
        """Run the jobs, filling their outputs. Returns for each what went wrong, or None: the
        process died, or it changed bytes outside its outputs."""
        images = [_image(self.codes[job.program], job) for job in jobs]
        findings: list[str | None] = []
        arch = self.codes[0].target.triple.split("-")[0]
        while len(findings) < len(jobs):
            rest = range(len(findings), len(jobs))
            data = b"".join(images[i][0] for i in rest)
            command = [emulator(arch), self.path]
            done = subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE)
            position = 0
            for i in rest:
                _, given, places = images[i]
                memory = done.stdout[position : position + len(given)]
                if len(memory) < len(given):  # this one was never answered
                    findings.append(f"exit {done.returncode}: {done.stderr.decode().strip()}")
                    break
                position += len(given)
                findings.append(_take(given, memory, places, jobs[i].outputs))
        return findings


def _image(code: NativeCode, job: Job) -> tuple[bytes, bytes, list[int]]:
    """(what the runner reads, its memory's given bytes, places of the outputs)."""
    layout, places = code.layout, []
    memory = bytearray(8 * layout.size)
    for array in (*job.outputs, *job.inputs, *code.weights):
        memory += bytes([CANARY]) * (SPACE + -len(memory) % SPACE)
        places.append(len(memory))
        memory += np.ascontiguousarray(array).tobytes()
    memory += bytes([CANARY]) * (SPACE + -len(memory) % SPACE)
    given = len(memory)
    outputs, rest = places[: layout.outputs], places[layout.outputs :]
    inputs, weights = rest[: layout.inputs], rest[layout.inputs :]
    arena = -(-given // ALIGNMENT) * ALIGNMENT
    scratch = arena + -(-code.arena // ALIGNMENT) * ALIGNMENT
    table = [0] * layout.size
    table[Layout.ARENA], table[Layout.SCRATCH] = arena, scratch
    for kind, found in (("input", inputs), ("output", outputs), ("weight", weights)):
        for i, place in enumerate(found):
            table[layout.position(kind, i)] = place
    memory[: 8 * layout.size] = struct.pack(f"<{layout.size}q", *table)
    size = scratch + code.scratch + ALIGNMENT
    header = HEADER.pack(job.program, size, given, layout.size)
    return header + memory, bytes(memory), outputs


def _take(given: bytes, memory: bytes, places: list[int], outputs: list) -> str | None:
    """Copy the outputs out of the memory; what else differs, the table apart."""
    kept = bytearray(given)
    for place, y in zip(places, outputs):
        kept[place : place + y.nbytes] = found = memory[place : place + y.nbytes]
        y[...] = np.frombuffer(found, y.dtype).reshape(y.shape)
    start = places[0] - SPACE
    changed = np.frombuffer(kept, np.uint8)[start:] != np.frombuffer(memory, np.uint8)[start:]
    return f"stores beside its outputs, at {np.flatnonzero(changed)[:4]}" if changed.any() else None


def link(codes: Sequence[NativeCode], folder: Path) -> Executable:
    """An executable of the programs, which must be of one target."""
    target, names = codes[0].target, [f"{MAIN}_{i}" for i in range(len(codes))]
    objects: dict[str, bytes] = {}
    for name, code in zip(names, codes):
        objects |= {k: data for k, data in code.objects.items() if k != MAIN}
        entry = str(main_module(code.plan, target)).replace(f'"{MAIN}"', f'"{name}"')
        objects[name] = object_code(entry, target)
    return _link(objects, names, codes, folder)


def link_whole(data: bytes, code: NativeCode, folder: Path) -> Executable:
    """An executable of one object that holds a whole program (`whole_object`)."""
    return _link({"whole": data}, [MAIN], [code], folder)


def _link(
    objects: dict[str, bytes], mains: Sequence[str], codes: Sequence[NativeCode], folder: Path
) -> Executable:
    """Objects by name, with the entries `mains`, and the runner as an executable."""
    target, path = codes[0].target, folder / "program"
    arch = target.triple.split("-")[0]
    tool = f"{arch}-linux-gnu-"
    # In assembly, since llvmlite has assemblers (for inline assembly) of its own machine only.
    call = folder / "call.s"
    call.write_text("\n".join([".globl call", "call:", *SYSTEM_CALL[arch], ""]))
    _call([f"{tool}as", "-o", folder / "call.o", call])
    for name, data in {"runner": _runner(target, mains), **objects}.items():
        (folder / f"{name}.o").write_bytes(data)
    files = "\n".join(f"{folder / name}.o" for name in ("runner", "call", *objects))
    (folder / "objects").write_text(files)
    _call([f"{tool}ld", "-static", "--no-relax", "-o", path, f"@{folder / 'objects'}"])
    return Executable(path, codes)


def _call(command: list) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _runner(target: Machine, names: Sequence[str]) -> bytes:
    """The runner's object. It is not optimized: its loops would become calls to memset."""
    text = RUNNER.format(
        triple=target.triple,
        count=len(names),
        pointers=", ".join(f"ptr @{n}" for n in names),
        declarations="\n".join(f"declare void @{n}(ptr, i64, i64, ptr)" for n in names),
    )
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    return machine(target).emit_object(parsed)
