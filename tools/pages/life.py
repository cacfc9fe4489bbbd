"""docs/life-of-a-model.md: one small model at each stage of its compilation.

    python -m tessel.tools.pages.life docs/life-of-a-model.md

Everything in a block is printed by the code that compiles; only the sentences between are written
here. The target has a name, so that the page is the same on every machine.
"""

import io
import re
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ... import compile as compile_model
from ... import from_onnx
from ...compiler.backends.llvm.backend import llvm_text
from ...compiler.ir.text import print_graph
from ...runtime.base.build import Built
from ...runtime.execution.package import Package
from ..common.terminal import Console, write
from ..emit import program_text
from ..explain import print_explanation

TARGET = "cpu:x86-64-v3"
WIDTH = 130
SECTIONS = {
    "manifest": "the signature, the target, and where everything is",
    "about": "how it was compiled",
    "code": "machine code, an object for each kernel",
    "packed": "weights, in the order in which kernels read them",
    "graph": "the graph as text, to compile it again elsewhere",
    "weights": "the graph's weights",
}
PAGE = """\
# The life of a model

One small model at each stage, from an ONNX file to machine code. Every block below is what tessel
prints; this page is generated: `make docs`. [Concepts](concepts.md) explains the words.

## 1. The ONNX model

A classifier with one hidden layer: eight rows of 64 numbers come in, ten probabilities for each
go out. The scale is a node of its own, as exporters like to leave it.

```
{onnx}
```

## 2. The graph

The reader turns ONNX's operators into tessel's [*ops*](concepts.md#op). The result is a typed
[*graph*](concepts.md#graph): each value is defined once and has a [*dtype*](concepts.md#dtype)
and a shape. The comment behind a node is its [*origin*](concepts.md#origin). Large weights are
kept apart (`@w0`). The text can be parsed again. `tessel compile model.onnx -O0 --emit graph`
prints it.

```
{graph}
```

## 3. After the passes

[*Passes*](concepts.md#pass) rewrite the graph. Here one [*rewrite*](concepts.md#rewrite) applies:
a product that is scaled by a constant becomes a product with scaled weights, which are computed
now. The `mul` is gone. `tessel compile model.onnx --emit graph` prints this stage.

```
{optimized}
```

## 4. The kernels

[*Lowering*](concepts.md#lowering) turns each op into an expression for one element of its result.
[*Fusion*](concepts.md#fusion) puts expressions together: the bias and the relu are computed where
the product is summed up, and need no memory of their own. What remains are
[*kernels*](concepts.md#kernel) and a program that calls them in order. Intermediate results lie
in one block of memory, the [*arena*](concepts.md#arena). `--emit loops` prints this stage, and
numpy can run it.

```
{loops}
```

Not everything is fused. The softmax reads each element of the second product more than once, so
computing the product inside of the softmax would compute it again and again. `tessel explain`
says so below.

## 5. The schedules

A [*schedule*](concepts.md#schedule) says how a kernel uses the machine: how many elements of the
result are held in registers at once (the [*tile*](concepts.md#tile)), what is vectorised, and
what is put into another order beforehand ([*packing*](concepts.md#packing)). `tessel explain`
lists the schedules, with the time that the [*cost model*](concepts.md#cost-model) predicts. The
target is `{target}`.

```
{explanation}
```

## 6. LLVM

The schedules are written as LLVM's intermediate language. This is the innermost loop of the last
product, cut short: vectors of eight packed weights are loaded, an element of the hidden layer is
copied into all eight [*lanes*](concepts.md#lane), and their products are added to the sums in
registers. `--emit llvm` prints all of it, `--emit asm` the instructions of the processor.

```llvm
{llvm}
```

## 7. The package

`exe.save("model.tsl")` writes a [*package*](concepts.md#package): machine code, packed weights,
the graph and the signature. Loading it compiles nothing.

```
{package}
```

## 8. A run

`exe(x)` fills in the addresses of the inputs and outputs and calls the compiled program once.

```
{run}
```

Each stage has a meaning in numpy, so each can be compared with the one before. That is what
`tessel verify model.onnx` does: it names the first stage, and the node, that differ.
"""


def model() -> onnx.ModelProto:
    """softmax(relu((x @ w1) · 0.125 + b1) @ w2) for x: f32[8,64]"""
    node, info = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("MatMul", ["x", "w1"], ["a"], "hidden/product"),
        node("Mul", ["a", "scale"], ["b"], "hidden/scale"),
        node("Add", ["b", "b1"], ["c"], "hidden/bias"),
        node("Relu", ["c"], ["d"], "hidden/relu"),
        node("MatMul", ["d", "w2"], ["e"], "head/product"),
        node("Softmax", ["e"], ["y"], "head/softmax", axis=-1),
    ]
    rng = np.random.default_rng(0)
    arrays = {
        n: rng.standard_normal(s) for n, s in (("w1", (64, 32)), ("b1", 32), ("w2", (32, 10)))
    }
    arrays["scale"] = np.array(0.125)
    graph = helper.make_graph(
        nodes,
        "classify",
        [info("x", onnx.TensorProto.FLOAT, [8, 64])],
        [info("y", onnx.TensorProto.FLOAT, [8, 10])],
        [numpy_helper.from_array(a.astype(np.float32), n) for n, a in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 21)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def page() -> str:
    """The whole page as Markdown."""
    source = model()
    options = {"target": TARGET, "threads": 1, "cache": False, "reuse": False}
    exe = compile_model(source, **options)
    built = exe.specializations[-1]
    x = np.linspace(-1, 1, 8 * 64, dtype=np.float32).reshape(8, 64)
    y = compile_model(source, **options | {"target": "numpy"})(x)
    lines = [
        f"x: {x.dtype}{list(x.shape)}",
        f"y: {y.dtype}{list(y.shape)}",
        f"y[0]: {np.array2string(y[0], precision=3, suppress_small=True)}",
    ]
    return PAGE.format(
        onnx=onnx_text(source),
        graph=print_graph(from_onnx(source)).rstrip(),
        optimized=print_graph(exe.graph).rstrip(),
        loops=program_text(built.program),
        target=TARGET,
        explanation=explanation(exe),
        llvm=inner_loop(built, exe),
        package=contents(exe),
        run="\n".join(lines),
    )


def onnx_text(model: onnx.ModelProto) -> str:
    """The nodes, as ONNX writes them."""
    lines = [f"{', '.join(n.output)} = {n.op_type}({', '.join(n.input)})" for n in model.graph.node]
    width = max(map(len, lines))
    names = [n.name for n in model.graph.node]
    return "\n".join(f"{line:{width}s}   # {name}" for line, name in zip(lines, names))


def explanation(exe) -> str:
    """What `tessel explain` says, without times that were measured."""
    out = Console(file=io.StringIO(), width=WIDTH, highlight=False, markup=False)
    print_explanation(exe, out, True)
    lines = [line.rstrip() for line in out.file.getvalue().splitlines()]
    return "\n".join(line for line in lines if not line.startswith("  passes took")).strip()


def inner_loop(built: Built, exe) -> str:
    """The beginning of the loop over k in the code of the last product."""
    text = llvm_text(built.code.plan, exe.target.machine, exe.signature.updates)
    functions = text.split("\ndefine ")
    product = [f for f in functions if "\nk:" in f][-1]
    loop = product[product.index("\nk:") + 1 :].splitlines()
    kept = [line for line in loop if re.search(r"%(acc\.0\.[01]\.0|left|a|b) = phi", line)]
    first = next(i for i, line in enumerate(loop) if "fmuladd" in line)
    start = max(i for i in range(first) if "load <" in loop[i] and "getelementptr" in loop[i + 1])
    kept += loop[start : first + 2]
    return "\n".join([loop[0].split(":")[0] + ":", *(line.rstrip() for line in kept), "  …"])


def contents(exe) -> str:
    """The sections of a package, and how large they are."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tsl"
        exe.save(path)
        sections = Package(path).container.table
    return "\n".join(f"{name:10s} {SECTIONS[name]}" for name in sections if name in SECTIONS)


def main(path: str) -> None:
    Path(path).write_text(page())
    write(f"wrote {path}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
