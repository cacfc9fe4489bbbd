"""The reader's types of all values: as sharp as the onnx package's, and true."""

import numpy as np
import onnx
import pytest
from tessel.compiler.errors import TesselError
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.types import TensorType, tensor_type_of
from tessel.frontends.onnx.file.proto import dtype_of_element
from tessel.frontends.onnx.read.dependence import needed
from tessel.frontends.onnx.shapes import value_types
from tessel.tools import cli

from ...support.onnx_models import model
from ...support.onnx_out import cases, fed_inputs


def types_of(body: str, **options) -> dict[str, str]:
    types, error = value_types(model(body, **options))
    assert error is None
    return {n: str(t) for n, t in types.items()}


def test_dims_are_followed_through_arithmetic():
    types = types_of(
        """zero = Constant<value_int=0>() zero1 = Constant<value_ints=[0]>()
           s = Shape(x) b = Gather<axis=0>(s, zero) two = Constant<value_int=2>() c = Mul(b, two)
           m = Constant<value_ints=[-1]>() u = Unsqueeze(c, zero1) k = Concat<axis=0>(u, m)
           y = Reshape(x, k) z = Concat<axis=0>(y, y)""",
        inputs="float[N,6] x",
        outputs="float[a,b] z",
    )
    assert (types["x"], types["s"], types["k"]) == ("f32[N,6]", "i64[2]", "i64[2]")
    assert (types["y"], types["z"]) == ("f32[2*N,3]", "f32[4*N,3]")


def test_what_cannot_be_read_has_no_type_and_the_rest_has():
    types, error = value_types(
        model("a = Exp(x) b = com.acme.Foo(a) c = Relu(b) y = Neg(a)", extra=', "com.acme": 1')
    )
    assert isinstance(error, TesselError) and "com.acme:Foo" in str(error)
    assert types == {"x": types["x"], "a": types["x"], "b": None, "c": None, "y": types["x"]}


def test_inspect_prints_types(tmp_path, capsys):
    path = tmp_path / "m.onnx"
    onnx.save(model("h = Transpose(x) y = Exp(h)", inputs="float[N,3] x"), path)
    for shapes, expected in [((), "h      f32[3,N]"), (("--shapes", "x:5x3"), "h      f32[3,5]")]:
        with pytest.raises(SystemExit, match="0"):
            cli.main(["inspect", str(path), "--types", *shapes])
        assert expected in capsys.readouterr().out


# -- against the onnx package -----------------------------------------------------------------


def inferred(proto: onnx.ModelProto) -> dict[str, onnx.TypeProto]:
    """What the onnx package infers, without what the file declares."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        output.type.tensor_type.ClearField("shape")
    try:
        bare = onnx.shape_inference.infer_shapes(bare, data_prop=True, strict_mode=True)
    except (onnx.shape_inference.InferenceError, ValueError):
        return {}
    return {i.name: i.type for i in (*bare.graph.value_info, *bare.graph.output)}


def knows_less(ours, theirs: onnx.TypeProto) -> str | None:
    """In what `ours` falls short of theirs, or contradicts it."""
    if not theirs.HasField("tensor_type"):
        return None
    if not isinstance(ours, TensorType):
        return "no type"
    kind, shape = theirs.tensor_type.elem_type, theirs.tensor_type.shape.dim
    if kind and dtype_of_element(kind, "") != ours.dtype:
        return "another dtype"
    if not theirs.tensor_type.HasField("shape"):
        return None
    if len(shape) != ours.rank:
        return "another rank"
    pairs = [(a, b.dim_value) for a, b in zip(ours.shape, shape) if b.HasField("dim_value")]
    # a declared size of 0 stands for a dynamic dim in many files, and is read as one
    if any(a != b and not (b == 0 and isinstance(a, Sym)) for a, b in pairs):
        return "another size"
    return None


def types_of_case(case) -> dict | None:
    """None where the case cannot be read."""
    types, error = value_types(case.model)
    wanted = needed(error) if error is not None else None
    if wanted:
        inputs = dict(zip([i.name for i in fed_inputs(case.model)], case.sets[0][0]))
        types, error = value_types(case.model, values={n: inputs[n] for n in wanted})
    return types if error is None else None


def contradictions(case, types: dict) -> list[str]:
    """Outputs whose expected values are not of the type that was inferred."""
    found = []
    for inputs, outputs in case.sets:
        binding: dict[str, int] = {}
        for info, x in zip(fed_inputs(case.model), inputs):
            if isinstance(types.get(info.name), TensorType):
                binding |= {str(d): n for d, n in zip(types[info.name].shape, np.shape(x))}
        for info, y in zip(case.model.graph.output, outputs):
            if isinstance(types.get(info.name), TensorType) and isinstance(y, np.ndarray):
                said, real = types[info.name].substitute(binding), tensor_type_of(y)
                same = said.rank == real.rank and all(
                    a == b or isinstance(a, Sym) for a, b in zip(said.shape, real.shape)
                )
                if not same or said.dtype != real.dtype:
                    found.append(f"{info.name}: {said} is {real}")
    return found


@pytest.mark.slow
def test_cases_of_onnx_are_known_as_well_as_by_the_onnx_package():
    """Each fifth backend case, all values that are no body's."""
    compared, wrong = 0, []
    for case in cases(every=5):
        try:
            types = types_of_case(case)
        except TesselError:
            types = None
        if types is None:
            continue
        for name, theirs in inferred(case.model).items():
            compared += 1
            text = knows_less(types.get(name), theirs)
            if text is not None:
                wrong.append(f"{case.name}, {name}: {text}, {types.get(name)}")
        wrong += [f"{case.name}, {text}" for text in contradictions(case, types)]
    assert not wrong
    assert compared > 1000
