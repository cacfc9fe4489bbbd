"""What cases run on: tessel, and other engines to stand beside it.

An engine is `engine(model) -> run`, `run(inputs, threads) -> outputs`, both lists in the model's
order. It raises `NotImplementedError` (or tessel's UnsupportedError) for what it does not have.
"""

import ctypes
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .cases import Case, load_cases, runtime_inputs
from .dynamic import tessel_dynamic

T = TensorProto
PLAIN = {
    T.FLOAT,
    T.DOUBLE,
    T.FLOAT16,
    T.BOOL,
    T.STRING,
    T.INT8,
    T.INT16,
    T.INT32,
    T.INT64,
    T.UINT8,
    T.UINT16,
    T.UINT32,
    T.UINT64,
}


def tessel(model: onnx.ModelProto):
    """Compiled for this machine, without a cache: `run.executable` says what was made."""
    from tessel import compile

    exe = compile(model, cache=False)
    names = [p.name for p in exe.inputs]

    def run(inputs, threads):
        exe.threads = threads
        out = exe.run(dict(zip(names, inputs)))
        return [out[p.name] for p in exe.outputs]

    run.executable = exe
    return run


# -- ONNX Runtime --------------------------------------------------------------------------

_ORT_LACKS = (
    "No Op registered for",
    "is not a registered function/op",
    "Type Error: Type",
    "No opset import for domain",
    "are not supported",
)


def onnxruntime(model: onnx.ModelProto):
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    def guarded(f, *args):
        try:
            return f(*args)
        except state.NotImplemented as error:
            raise NotImplementedError(str(error)) from error
        except (state.Fail, state.InvalidGraph) as error:
            if any(mark in str(error) for mark in _ORT_LACKS):
                raise NotImplementedError(str(error)) from error
            raise

    def open_session():
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        return ort.InferenceSession(model.SerializeToString(), options, providers=providers)

    def run_session(inputs):
        feeds = dict(zip(names, inputs))
        if plain:
            return session.run(None, feeds)
        feeds = {n: _to_ort(ort, x) for n, x in feeds.items()}
        return [_from_ort(y) for y in session.run_with_ort_values(None, feeds)]

    names = [i.name for i in runtime_inputs(model)]
    ports = [*model.graph.input, *model.graph.output]
    plain = all(
        not p.type.HasField("tensor_type") or p.type.tensor_type.elem_type in PLAIN for p in ports
    )
    session = guarded(open_session)
    return lambda inputs, threads: guarded(run_session, inputs)


def _to_ort(ort, x):
    """An OrtValue; dtypes without a numpy one of their own go as raw bytes."""
    x = np.asarray(x)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    if kind in PLAIN:
        return ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x).reshape(x.shape))
    value = ort.OrtValue.ortvalue_from_shape_and_type(list(x.shape), kind)
    raw = numpy_helper.from_array(x).raw_data
    if len(raw) != value.tensor_size_in_bytes():
        raise NotImplementedError(f"no way to hand over {x.dtype}")
    ctypes.memmove(value.data_ptr(), raw, len(raw))
    return value


def _from_ort(value):
    if not value.is_tensor() or value.element_type() in PLAIN:
        return value.numpy()
    raw = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    message = TensorProto(data_type=value.element_type(), dims=value.shape(), raw_data=raw)
    return numpy_helper.to_array(message)


# -- OpenVINO ------------------------------------------------------------------------------

_OV_LACKS = (
    "not supported",
    "nsupported",
    "doesn't support",
    "not implemented",
    "NotImplemented",
    "No conversion rule",
    "Conversion is failed",
)


@cache
def _core():
    import openvino as ov

    core = ov.Core()
    options = {"INFERENCE_NUM_THREADS": "1", "INFERENCE_PRECISION_HINT": "f32"}
    core.set_property("CPU", options)
    return core


def openvino(model: onnx.ModelProto):
    def guarded(f, *args):
        try:
            return f(*args)
        except NotImplementedError:
            raise
        except RuntimeError as error:
            if any(mark in str(error) for mark in _OV_LACKS):
                raise NotImplementedError(str(error)[-300:]) from error
            raise

    def open_model():
        core = _core()
        return core.compile_model(core.read_model(model.SerializeToString()), "CPU")

    def run_model(inputs):
        request = compiled.create_infer_request()
        left, feeds, unnamed = dict(zip(names, inputs)), {}, []
        for i, port in enumerate(compiled.inputs):
            name = next((n for n in port.get_names() if n in left), None)
            if name is None:  # an input that is also an output has the output's name
                unnamed.append((i, port))
            else:
                feeds[i] = _to_ov(left.pop(name), port)
        for (i, port), x in zip(unnamed, left.values()):
            feeds[i] = _to_ov(x, port)
        request.infer(feeds)
        return [
            _from_ov(request.get_output_tensor(k), o.type.tensor_type.elem_type)
            for k, o in enumerate(model.graph.output)
        ]

    names = [i.name for i in runtime_inputs(model)]
    for p in [*model.graph.input, *model.graph.output]:
        if not p.type.HasField("tensor_type"):
            raise NotImplementedError(f"no values such as {p.type.WhichOneof('value')}")
    compiled = guarded(open_model)
    return lambda inputs, threads: guarded(run_model, inputs)


def _to_ov(x, port):
    import openvino as ov

    x = np.asarray(x)
    if x.dtype == object:
        return ov.Tensor(np.asarray(x.tolist(), np.str_).reshape(x.shape))
    if helper.np_dtype_to_tensor_dtype(x.dtype) in PLAIN:
        return ov.Tensor(np.array(x, order="C"))
    raw = np.frombuffer(numpy_helper.from_array(x).raw_data, np.uint8)
    tensor = ov.Tensor(port.get_element_type(), ov.Shape(list(x.shape)))
    if tensor.byte_size != raw.nbytes:
        raise NotImplementedError(f"no way to hand over {x.dtype}")
    tensor.data.reshape(-1).view(np.uint8)[:] = raw
    return tensor


def _from_ov(tensor, kind: int):
    shape = list(tensor.shape)
    if kind == T.STRING:
        return np.array(tensor.str_data, object).reshape(shape)
    if kind in PLAIN:
        return np.array(tensor.data)
    raw = np.ascontiguousarray(tensor.data).tobytes()
    return numpy_helper.to_array(TensorProto(data_type=kind, dims=shape, raw_data=raw))


ENGINES = {"tessel": tessel, "onnxruntime": onnxruntime, "openvino": openvino}
VARIANTS = {"tessel-dynamic": tessel_dynamic}  # for cases of nodes; not on the page


def cases_of(engine: str) -> list[Case]:
    """The cases that an engine is tried with."""
    return [c for c in load_cases() if engine in ENGINES or c.category == "node"]


# -- what may happen to a worker, for the runner's own tests ----------------------------------


def _raises(model):
    raise ValueError("no")


def _refuses(model):
    raise NotImplementedError("no such thing")


def _dies(model):
    import faulthandler

    faulthandler._sigsegv()


def _hangs(model):
    import time

    time.sleep(60)


def _eats(model):
    np.ones(1 << 40, np.uint8)


FAULTS = {f.__name__: f for f in (_raises, _refuses, _dies, _hangs, _eats)}


def version_of(engine: str) -> str:
    """The installed version. Raises ImportError where there is none."""
    import importlib

    name = engine.partition("-")[0]
    return importlib.import_module(name).__version__.split("-")[0]
