"""The cases: models with inputs and expected outputs, from the installed onnx package.

The package makes most of its cases in code, which takes a minute, so they are kept as one file in
`build/`, one per version of onnx and numpy. A case travels as bytes: the model and its values are
serialized ONNX messages, read where they are used.
"""

import io
import pickle
import re
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parents[2]
CATEGORIES = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")
FORMAT = 1  # of the kept file
RTOL, ATOL = 1e-3, 1e-7

_READERS = {
    "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
    "map_type": (onnx.MapProto, numpy_helper.to_dict),
    "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
    "tensor_type": (onnx.TensorProto, numpy_helper.to_array),
}


@dataclass(frozen=True)
class Case:
    """`sets` holds pairs (inputs, outputs) of serialized values, `group` the operators' family."""

    category: str
    name: str
    group: str
    model: bytes
    sets: tuple
    rtol: float
    atol: float

    @property
    def id(self) -> str:
        return f"{self.category}/{self.name}"

    def load(self) -> tuple[onnx.ModelProto, list[tuple[list, list]]]:
        """The model, and (inputs, expected outputs) of each data set as numpy arrays."""
        model = onnx.ModelProto.FromString(self.model)
        inputs, outputs = runtime_inputs(model), model.graph.output
        return model, [
            (
                [_decode(d, i.type) for d, i in zip(x, inputs)],
                [_decode(d, o.type) for d, o in zip(y, outputs)],
            )
            for x, y in self.sets
        ]


def runtime_inputs(model: onnx.ModelProto) -> list:
    """Inputs that a caller gives: initializers are only defaults."""
    given = {t.name for t in model.graph.initializer}
    given |= {t.values.name for t in model.graph.sparse_initializer}
    return [i for i in model.graph.input if i.name not in given]


def load_cases() -> list[Case]:
    """Every case of the installed onnx package, in order."""
    name = f"onnx-{onnx.__version__}-numpy-{np.__version__}-{FORMAT}.pickle"
    path = ROOT / "build" / "conformance" / name
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            pickle.dump([vars(c) for c in make_cases()], file)
        shutil.move(file.name, path)
    with path.open("rb") as file:
        return [Case(**fields) for fields in pickle.load(file)]


def make_cases() -> list[Case]:
    """The cases, made anew. A case that cannot be read is an error: none may get lost."""
    from onnx.backend.test.loader import load_model_tests

    cases = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's, about what the cases compute
        for category in CATEGORIES:
            for test in sorted(load_model_tests(kind=category), key=lambda t: t.name):
                cases.append(_case(category, test))
    return _with_groups(cases)


def _case(category: str, test) -> Case:
    if test.model is not None:
        model, sets = test.model, [_encoded(test.model, *s) for s in test.data_sets]
    elif test.model_dir is not None:
        folder = Path(test.model_dir)
        model = onnx.load(folder / "model.onnx")
        sets = [_files(d) for d in sorted(folder.glob("test_data_set_*"))]
    else:
        model, sets = _light(Path(onnx.__file__).parent.parent / test.url)
    assert sets, f"{test.name} has no data"
    data = model.SerializeToString()
    return Case(category, test.name, "", data, tuple(sets), test.rtol, test.atol)


def _files(folder: Path) -> tuple[list[bytes], list[bytes]]:
    def all_of(kind):
        count = len(list(folder.glob(f"{kind}_*.pb")))
        return [(folder / f"{kind}_{i}.pb").read_bytes() for i in range(count)]

    return all_of("input"), all_of("output")


def _light(path: Path) -> tuple[onnx.ModelProto, list]:
    """A `light` model: its input is arange(n) / n, and its outputs lie beside it."""
    model = onnx.load(path)
    inputs = []
    for info in runtime_inputs(model):
        shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
        n = int(np.prod(shape))
        x = (np.arange(n).reshape(shape) / n).astype(np.float32)
        inputs.append(numpy_helper.from_array(x).SerializeToString())
    stem = str(path.with_suffix(""))
    outputs = [Path(f"{stem}_output_{i}.pb").read_bytes() for i in range(len(model.graph.output))]
    return model, [(inputs, outputs)]


def _encoded(model: onnx.ModelProto, inputs, outputs) -> tuple[list[bytes], list[bytes]]:
    assert len(outputs) == len(model.graph.output)
    return (
        [_encode(v, i.type) for v, i in zip(inputs, runtime_inputs(model), strict=True)],
        [_encode(v, o.type) for v, o in zip(outputs, model.graph.output, strict=True)],
    )


def _encode(value, type: onnx.TypeProto) -> bytes:
    match type.WhichOneof("value"):
        case _ if isinstance(value, onnx.TensorProto):
            message = value
        case "sequence_type":
            message = numpy_helper.from_list(list(value))
        case "map_type":
            message = numpy_helper.from_dict(value)
        case "optional_type":
            message = numpy_helper.from_optional(value)
        case _:
            array = np.asarray(value)
            message = numpy_helper.from_array(
                array.astype(object) if array.dtype.kind in "SU" else array
            )
    return message.SerializeToString()


def _decode(data: bytes, type: onnx.TypeProto):
    message, read = _READERS[type.WhichOneof("value")]
    return read(message.FromString(data))


# -- groups --------------------------------------------------------------------------------


def _with_groups(cases: list[Case]) -> list[Case]:
    """An expanded case belongs to the operator of the case that it expands."""
    alone = {c.name: _group(c) for c in cases if c.category == "node"}

    def group(c: Case) -> str:
        if c.category != "node":
            return f"models: {c.category}"
        return alone.get(re.sub(r"_expanded(_ver\d+)?$", "", c.name), alone[c.name])

    return [Case(**{**vars(c), "group": group(c)}) for c in cases]


def _group(case: Case) -> str:
    """The family of the first operator, as the ONNX standard sorts them into folders."""
    node = onnx.ModelProto.FromString(case.model).graph.node[0]
    try:
        file = onnx.defs.get_schema(node.op_type, domain=node.domain).file
    except onnx.defs.SchemaError:
        return node.domain or "other"
    family = Path(file).parent.name.replace("_", " ")
    return f"{node.domain}: {family}" if node.domain not in ("", "ai.onnx") else family


def to_bytes(case: Case) -> bytes:
    return pickle.dumps(vars(case))


def from_bytes(data: bytes) -> Case:
    return Case(**pickle.load(io.BytesIO(data)))
