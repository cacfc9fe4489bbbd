"""Object files in memory: linked here where they are plain, by LLVM where they are not."""

import ctypes
import gc
import platform
import random
import subprocess
import sys

import llvmlite.binding as llvm
import pytest
from tessel.compiler.backends.llvm.base.target import initialize
from tessel.runtime.native import linker
from tessel.runtime.native.linker import _Jit, _Linked, link

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="ELF for x86-64"
)

# A constant in memory, a call of another object, of the process and of a given address, a variable.
CALLER = """
declare double @half(double)
declare i64 @strlen(ptr)
declare i64 @given(i64)
@count = global i64 0
@word = internal constant [6 x i8] c"tiles\\00"
define double @scale(double %x) {
  %y = call double @half(double %x)
  %z = fmul double %y, 0x400921FB54442D18
  ret double %z
}
define i64 @length() {
  %n = load i64, ptr @count
  %more = add i64 %n, 1
  store i64 %more, ptr @count
  %length = call i64 @strlen(ptr @word)
  %sum = add i64 %length, %more
  ret i64 %sum
}
define i64 @ask(i64 %x) {
  %y = call i64 @given(i64 %x)
  ret i64 %y
}
"""
CALLED = """
define double @half(double %x) {
  %y = fmul double %x, 0.5
  ret double %y
}
"""
GIVEN = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: x + 40)
SYMBOLS = {"given": ctypes.cast(GIVEN, ctypes.c_void_p).value}


def object_file(text: str, triple: str = "x86_64-unknown-linux-gnu") -> bytes:
    initialize()
    tm = llvm.Target.from_triple(triple).create_target_machine(
        opt=2, reloc="pic", codemodel="default", jit=False
    )
    return tm.emit_object(llvm.parse_assembly(text))


def objects() -> dict[str, bytes]:
    return {"caller": object_file(CALLER), "called": object_file(CALLED)}


def function(image, name, result, *types):
    return ctypes.CFUNCTYPE(result, *types)(image.address(name))


@pytest.mark.parametrize("linked", [_Linked, _Jit])
def test_functions_find_each_other_libraries_constants_and_variables(linked):
    image = linked(objects(), SYMBOLS)
    assert function(image, "scale", ctypes.c_double, ctypes.c_double)(2.0) == 3.141592653589793
    length = function(image, "length", ctypes.c_int64)
    assert [length(), length()] == [6, 7]
    assert function(image, "ask", ctypes.c_int64, ctypes.c_int64)(2) == 42
    assert ctypes.c_int64.from_address(image.address("count")).value == 2


def test_code_cannot_be_written_and_variables_cannot_be_run():
    image = link(objects(), SYMBOLS)
    assert isinstance(image, _Linked)
    assert protection(image.address("scale")) == "r-xp"
    assert protection(image.address("count")) == "rw-p"


def protection(address: int) -> str:
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, flags, *_ = line.split()
            low, high = (int(x, 16) for x in span.split("-"))
            if low <= address < high:
                return flags
    return "none"


def test_memory_goes_with_the_image_unless_it_is_kept():
    image = link({"called": object_file(CALLED)}, {})
    kept = link({"called": object_file(CALLED)}, {})
    addresses = [i.address("half") for i in (image, kept)]
    kept.keep()
    del image, kept
    gc.collect()
    assert [protection(a) == "r-xp" for a in addresses] == [False, True]


def test_what_is_not_plain_is_left_to_llvm():
    text = "@slot = thread_local global i64 5\ndefine ptr @where() { ret ptr @slot }"
    with pytest.raises(linker._Unusual):
        _Linked({"a": object_file(text)}, {})
    with pytest.raises(linker._Unusual):
        _Linked({"a": object_file(CALLED, "aarch64-unknown-linux-gnu")}, {})
    with pytest.raises(linker._Unusual):
        _Linked(
            {
                "a": object_file(
                    "declare void @nowhere()\ndefine void @f() {\ncall void @nowhere()\nret void\n}"
                )
            },
            {},
        )


def test_where_linking_is_not_plain_llvm_does_it(monkeypatch):
    monkeypatch.setattr(linker, "PLAIN", False)
    image = link({"called": object_file(CALLED)}, {})
    assert isinstance(image, _Jit)
    assert function(image, "half", ctypes.c_double, ctypes.c_double)(3.0) == 1.5


@pytest.mark.parametrize("seed", range(40))
def test_files_that_are_cut_off_are_refused(seed):
    data = object_file(CALLER)
    cut = data[: random.Random(seed).randrange(len(data))]
    with pytest.raises((ValueError, linker._Unusual)):
        _Linked({"a": cut, "b": object_file(CALLED)}, SYMBOLS)


def test_running_a_package_loads_no_llvm(tmp_path):
    script = """
import sys, numpy as np, tessel
exe = tessel.load(sys.argv[1], threads=2)
exe(np.ones((3, 4), np.float32))
print(*sorted({"llvmlite", "onnx", "ml_dtypes"} & set(sys.modules)))
"""
    import tessel
    from tessel.compiler.ir.builder import Builder

    b = Builder()
    b.output("y", b.softmax(b.input("x", "f32[3,4]"), axis=-1))
    tessel.compile(b.graph).save(tmp_path / "model.tsl")
    command = [sys.executable, "-c", script, str(tmp_path / "model.tsl")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == ("\n", "", 0)
