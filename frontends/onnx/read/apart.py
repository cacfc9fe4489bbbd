"""Models whose dims of one name may differ: each occurrence becomes a symbol of its own.

    read(Apart("model.onnx"))      # a: f32[N,3], b: f32[N,3]  =>  a: f32[N,3], b: f32[N_b_0,3]

ONNX Runtime warns where a run gives a name two sizes, and goes on. What has to be equal is then
checked like sizes of other names (`compiler/analysis/equations.py`), so that nothing is taken for
granted: what does not fit is refused, what broadcasts is broadcast.
"""

from dataclasses import replace
from typing import Any

import onnx

from ....compiler.classes import dataclass
from ....compiler.ir.dims import symbol_name
from ....compiler.ir.metadata.dims_apart import KEY, Repeated, written
from ..file import proto as pb
from .inputs import true_inputs


@dataclass(frozen=True)
class Apart(pb.Source):
    """A model with symbols of their own for repeated names; `source` is what `pb.load` takes."""

    source: Any

    def load(self) -> pb.Loaded:
        """The model with other names; the caller's own stays as it is."""
        loaded = pb.load(self.source)
        model = onnx.ModelProto()
        model.CopyFrom(loaded.model)
        apart = _rename(model.graph)
        kept = [p for p in model.metadata_props if p.key != KEY]
        del model.metadata_props[:]
        model.metadata_props.extend(kept)
        if apart:
            model.metadata_props.add(key=KEY, value=written(apart))
        return replace(loaded, model=model)


def _rename(graph: onnx.GraphProto) -> dict[str, Repeated]:
    """Give dims of the inputs names of their own; which, by the new name."""
    places = [
        (f"{info.name}, axis {axis}", symbol_name(f"{info.name}_{axis}"), d)
        for info in true_inputs(graph)
        if info.type.WhichOneof("value") == "tensor_type"
        for axis, d in enumerate(info.type.tensor_type.shape.dim)
        if d.dim_param
    ]
    taken = {symbol_name(d.dim_param) for _, _, d in places}
    first: dict[str, str] = {}
    apart: dict[str, Repeated] = {}
    for where, place, d in places:
        name = symbol_name(d.dim_param)
        if name not in first:
            first[name] = where
            continue
        own = f"{name}_{place}"
        while own in taken:
            own += "_"
        taken.add(own)
        apart[own] = Repeated(name, first[name], where)
        d.dim_param = own
    return apart
