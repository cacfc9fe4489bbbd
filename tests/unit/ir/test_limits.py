"""Sizes that make no sense, and more memory than there is: errors that say so."""

import numpy as np
import pytest
import tessel
from tessel.compiler import errors
from tessel.compiler.errors import ModelError, OutOfMemoryError, TesselError, TypeMismatch
from tessel.compiler.ir.builder import Builder

from ...support.onnx_models import model

HUGE = 1 << 23  # squared and times four, more bytes than an address can name
ANY = "float[A,B] y"


def shaped(body, **options):
    return model(body, **{"outputs": ANY, "inputs": "float[1] x", **options})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            f"s = Constant<value=int64[2] {{{1 << 40}, {1 << 40}}}>() y = Expand(x, s)",
            "expand: the result is absurdly large",
        ),
        (
            f"s = Constant<value=int64[2] {{{1 << 60}, {1 << 60}}}>() y = Pad(x, s)",
            "pad: the result is absurdly large",
        ),
        ("s = Constant<value=int64[2] {-3, 0}>() y = Pad(x, s)", "pads crop more than there is"),
    ],
)
def test_shapes_that_make_no_sense(body, message):
    with pytest.raises(TesselError) as caught:
        tessel.compile(shaped(body, outputs="float[A] y"))
    assert message in str(caught.value)


def test_no_elements_of_a_huge_shape():
    b = Builder()
    x = b.input("x", "f32[0]")
    with pytest.raises(TypeMismatch, match="absurdly large"):
        b.emit("reshape", x, shape=(0, 1 << 40, 1 << 40))


@pytest.mark.parametrize("scale", [-1.0, np.nan, np.inf, 1e30])
def test_sizes_that_arrive_and_make_no_sense(scale):
    proto = model(
        'y = Resize<mode="nearest">(x, , scales)',
        inputs="float[2,4] x, float[2] scales",
        outputs=ANY,
    )
    exe = tessel.compile(proto)
    with pytest.raises(TesselError, match="does not make sense with these inputs"):
        exe(np.ones((2, 4), np.float32), np.array([1, scale], np.float32))


def test_an_operand_that_must_be_there():
    with pytest.raises(ModelError, match="operand shape is missing"):
        tessel.compile(shaped("y = Reshape(x, , )"))
    with pytest.raises(ModelError, match="operand A is missing"):
        tessel.compile(shaped("y = Add(, x)"))


def test_results_that_memory_does_not_hold():
    sizes = f"s = Constant<value=int64[2] {{{HUGE}, {HUGE}}}>()"
    exe = tessel.compile(shaped(f"{sizes} y = Expand(x, s)"))
    x = np.ones(1, np.float32)
    for call in (lambda: exe(x), lambda: exe.run({"x": x}), lambda: exe(x)):
        with pytest.raises(OutOfMemoryError, match="Unable to allocate") as caught:
            call()
    assert isinstance(caught.value, MemoryError)  # for those who catch Python's


def test_values_between_that_memory_does_not_hold():
    b = Builder()
    x = b.input("x", "f32[1]")
    b.output("y", b.emit("cumsum", x.expand((1 << 46,)), axis=0).max((0,)))
    with pytest.raises(OutOfMemoryError):
        tessel.compile(b.graph)(np.ones(1, np.float32))


def test_sums_of_more_than_memory_holds_need_none():
    b = Builder()
    b.output("y", b.input("x", "f32[1]").expand((1 << 6, 1 << 40)).max((0, 1)))
    tessel.compile(b.graph)


def test_memory_ends_while_compiling(monkeypatch):
    def read(*_, **__):
        raise MemoryError("no more")

    monkeypatch.setattr("tessel.frontends.onnx.importer.read", read)
    with pytest.raises(OutOfMemoryError, match="no more"):
        tessel.compile(b"")


def test_the_message_of_an_error_without_one():
    assert str(OutOfMemoryError.of(MemoryError())).startswith("not enough memory\n  fix:")
    assert issubclass(errors.OutOfMemoryError, TesselError)
