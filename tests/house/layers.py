"""Which room may read which: the plan that `test_layers.py` holds the imports to.

The lowest rooms come first: none reads one that stands below it in this list. A room is a folder,
or a module of the package's root or of `compiler/` itself (`import_graph.py`). What every room may
read is not repeated.
"""

EVERYONE_READS = {"compiler/classes"}

READS: dict[str, str] = {
    "compiler": "",
    "compiler/classes": "",
    "compiler/errors": "",
    "compiler/arguments": "compiler/errors",
    "compiler/options": "compiler/errors",
    "compiler/system": "compiler/errors",
    "compiler/ir": "compiler/errors compiler/system",
    "compiler/analysis": "compiler/errors compiler/ir",
    "compiler/autodiff": "compiler/errors compiler/arguments compiler/ir",
    "compiler/compress/rounding": "",
    "compiler/expr": "compiler/errors compiler/system compiler/ir",
    "compiler/ir/metadata": "compiler/errors compiler/ir",
    "compiler/kernels": (
        "compiler/errors compiler/system compiler/ir compiler/analysis compiler/expr"
    ),
    "compiler/ops": "compiler/errors compiler/ir compiler/autodiff",
    "compiler/backends": "compiler/ir compiler/analysis compiler/expr compiler/kernels",
    "compiler/backends/llvm/base": "compiler/errors compiler/system compiler/ir compiler/kernels",
    "compiler/backends/triton": (
        "compiler/errors compiler/system compiler/ir compiler/expr compiler/kernels"
    ),
    "compiler/demands": "compiler/errors compiler/ir compiler/kernels",
    "compiler/lowering": (
        "compiler/errors compiler/system compiler/ir compiler/analysis compiler/expr "
        "compiler/kernels"
    ),
    "compiler/ops/contraction": "compiler/errors compiler/ir compiler/expr compiler/ops",
    "compiler/ops/control": (
        "compiler/errors compiler/ir compiler/autodiff compiler/expr compiler/ops"
    ),
    "compiler/ops/elementwise": "compiler/errors compiler/ir compiler/expr compiler/ops",
    "compiler/ops/internal": "compiler/errors compiler/ir compiler/expr compiler/ops",
    "compiler/ops/normalization": "compiler/errors compiler/ir compiler/ops",
    "compiler/ops/random": "compiler/errors compiler/ir compiler/expr compiler/ops",
    "compiler/ops/reduction": (
        "compiler/errors compiler/ir compiler/autodiff compiler/expr compiler/kernels compiler/ops"
    ),
    "compiler/backends/llvm/vmath": "compiler/errors compiler/backends/llvm/base",
    "compiler/ops/pooling": (
        "compiler/errors compiler/ir compiler/expr compiler/ops compiler/ops/contraction"
    ),
    "compiler/ops/quantization": (
        "compiler/errors compiler/ir compiler/expr compiler/kernels compiler/ops "
        "compiler/ops/contraction"
    ),
    "compiler/ops/sorting": (
        "compiler/errors compiler/ir compiler/expr compiler/kernels compiler/ops "
        "compiler/ops/contraction"
    ),
    "compiler/passes": (
        "compiler/errors compiler/system compiler/ir compiler/analysis compiler/kernels "
        "compiler/lowering compiler/ops/contraction"
    ),
    "compiler/backends/llvm/emit": (
        "compiler/ir compiler/expr compiler/kernels compiler/backends/llvm/base "
        "compiler/backends/llvm/vmath"
    ),
    "compiler/ops/movement": (
        "compiler/errors compiler/ir compiler/expr compiler/ops compiler/ops/contraction "
        "compiler/ops/pooling"
    ),
    "compiler/ops/recurrent": (
        "compiler/errors compiler/ir compiler/ops compiler/ops/elementwise "
        "compiler/ops/quantization"
    ),
    "compiler/passes/cpu": (
        "compiler/ir compiler/analysis compiler/lowering compiler/ops/contraction "
        "compiler/ops/internal compiler/passes"
    ),
    "compiler/rewrite": "compiler/errors compiler/ir compiler/passes",
    "compiler/backends/llvm/schedules": (
        "compiler/system compiler/ir compiler/analysis compiler/expr compiler/kernels "
        "compiler/backends compiler/backends/llvm/base compiler/backends/llvm/vmath "
        "compiler/backends/llvm/emit"
    ),
    "compiler/ops/text": (
        "compiler/errors compiler/ir compiler/expr compiler/ops compiler/ops/contraction "
        "compiler/ops/movement"
    ),
    "compiler/ops/vision": (
        "compiler/errors compiler/ir compiler/expr compiler/ops compiler/ops/contraction "
        "compiler/ops/movement"
    ),
    "compiler/rewrite/rules": (
        "compiler/ir compiler/ops/quantization compiler/passes compiler/rewrite"
    ),
    "compiler/compress": (
        "compiler/errors compiler/system compiler/ir compiler/autodiff "
        "compiler/ops/quantization compiler/passes compiler/rewrite/rules "
        "compiler/compress/rounding"
    ),
    "compiler/backends/llvm/schedules/contraction": (
        "compiler/ir compiler/expr compiler/kernels compiler/backends "
        "compiler/backends/llvm/base compiler/backends/llvm/emit "
        "compiler/backends/llvm/schedules"
    ),
    "compiler/backends/llvm/schedules/blocks": (
        "compiler/ir compiler/expr compiler/kernels compiler/backends "
        "compiler/backends/llvm/base compiler/backends/llvm/emit "
        "compiler/backends/llvm/schedules compiler/backends/llvm/schedules/contraction"
    ),
    "compiler/backends/llvm/schedules/online": (
        "compiler/ir compiler/expr compiler/kernels "
        "compiler/backends/llvm/base compiler/backends/llvm/vmath compiler/backends/llvm/emit "
        "compiler/backends/llvm/schedules compiler/backends/llvm/schedules/contraction"
    ),
    "compiler/backends/llvm/schedules/sliding": (
        "compiler/system compiler/ir compiler/expr compiler/kernels "
        "compiler/backends/llvm/base compiler/backends/llvm/emit "
        "compiler/backends/llvm/schedules"
    ),
    "compiler/op_records": (
        "compiler/ir compiler/ops/contraction compiler/ops/control "
        "compiler/ops/elementwise compiler/ops/internal compiler/ops/normalization "
        "compiler/ops/random compiler/ops/reduction compiler/ops/pooling "
        "compiler/ops/quantization compiler/ops/sorting compiler/ops/movement "
        "compiler/ops/recurrent compiler/ops/text compiler/ops/vision"
    ),
    "compiler/pipelines": (
        "compiler/passes compiler/passes/cpu compiler/rewrite compiler/rewrite/rules"
    ),
    "compiler/backends/llvm/kernel": (
        "compiler/system compiler/ir compiler/expr compiler/kernels "
        "compiler/backends/llvm/base compiler/backends/llvm/emit "
        "compiler/backends/llvm/schedules compiler/backends/llvm/schedules/blocks "
        "compiler/backends/llvm/schedules/contraction compiler/backends/llvm/schedules/online "
        "compiler/backends/llvm/schedules/sliding"
    ),
    "compiler/backends/llvm/program": (
        "compiler/system compiler/ir compiler/analysis compiler/expr compiler/kernels "
        "compiler/backends/llvm/base compiler/backends/llvm/emit "
        "compiler/backends/llvm/schedules compiler/backends/llvm/kernel"
    ),
    "compiler/backends/llvm": (
        "compiler/system compiler/ir compiler/kernels compiler/backends/llvm/base "
        "compiler/backends/llvm/schedules compiler/backends/llvm/kernel "
        "compiler/backends/llvm/program"
    ),
    "compiler/targets": (
        "compiler/errors compiler/system compiler/backends/llvm/base "
        "compiler/backends/triton compiler/pipelines compiler/backends/llvm/program "
        "compiler/backends/llvm"
    ),
    "compiler/driver": (
        "compiler/errors compiler/options compiler/system compiler/ir compiler/analysis "
        "compiler/kernels compiler/compress compiler/demands compiler/lowering compiler/passes "
        "compiler/pipelines compiler/targets"
    ),
    "runtime/base": (
        "compiler/errors compiler/arguments compiler/ir compiler/ir/metadata "
        "compiler/backends/llvm/base"
    ),
    "runtime/native": (
        "compiler/errors compiler/system compiler/ir compiler/analysis compiler/kernels "
        "compiler/backends/llvm/base compiler/backends/llvm/program"
    ),
    "runtime/package": (
        "compiler/errors compiler/system compiler/ir compiler/analysis compiler/kernels "
        "compiler/backends/llvm/program"
    ),
    "runtime/tuning": (
        "compiler/errors compiler/system compiler/expr compiler/kernels "
        "compiler/backends/llvm/base compiler/backends/llvm/schedules "
        "compiler/backends/llvm/schedules/contraction compiler/backends/llvm/kernel "
        "compiler/backends/llvm/program runtime/native"
    ),
    "runtime/gpu": (
        "compiler/errors compiler/system compiler/ir compiler/analysis compiler/kernels "
        "compiler/backends/triton compiler/targets runtime/base"
    ),
    "runtime/execution": (
        "compiler/errors compiler/arguments compiler/options compiler/system compiler/ir "
        "compiler/ir/metadata compiler/kernels compiler/backends "
        "compiler/backends/llvm/base compiler/ops/control compiler/passes "
        "compiler/backends/llvm/schedules compiler/targets compiler/driver runtime/base "
        "runtime/native runtime/package runtime/tuning runtime/gpu"
    ),
    "runtime/profiling": (
        "compiler/errors compiler/system compiler/ir compiler/analysis compiler/kernels "
        "compiler/backends compiler/backends/llvm/base compiler/backends/llvm/kernel "
        "compiler/backends/llvm/program runtime/base runtime/native runtime/execution"
    ),
    "runtime/reuse": (
        "compiler/errors compiler/options compiler/system compiler/ir runtime/base "
        "runtime/package runtime/execution"
    ),
    "runtime": (
        "compiler/errors compiler/arguments compiler/options compiler/system compiler/ir "
        "compiler/ir/metadata compiler/compress compiler/passes runtime/base runtime/tuning "
        "runtime/execution runtime/reuse"
    ),
    "runtime/training": (
        "compiler/errors compiler/arguments compiler/system compiler/ir compiler/autodiff runtime"
    ),
    "runtime/compress": (
        "compiler/errors compiler/arguments compiler/options compiler/system compiler/ir "
        "compiler/compress/rounding compiler/compress compiler/lowering compiler/targets "
        "compiler/driver runtime/base runtime/execution runtime/profiling runtime runtime/training"
    ),
    "frontends/onnx/file": "compiler/errors compiler/system compiler/ir",
    "frontends/onnx/read": (
        "compiler/errors compiler/system compiler/ir compiler/ir/metadata frontends/onnx/file"
    ),
    "frontends/onnx/write": (
        "compiler/errors compiler/system compiler/ir compiler/expr compiler/ir/metadata "
        "compiler/ops/contraction compiler/ops/internal compiler/ops/random "
        "compiler/ops/quantization compiler/ops/sorting frontends/onnx/file"
    ),
    "frontends/onnx/operators/ai_onnx": (
        "compiler/errors compiler/ir compiler/autodiff compiler/ops/text "
        "compiler/ops/vision frontends/onnx/file frontends/onnx/read"
    ),
    "frontends/onnx/operators/ai_onnx_ml": (
        "compiler/errors compiler/ir compiler/ops/contraction compiler/ops/text frontends/onnx/read"
    ),
    "frontends/onnx/operators/com_microsoft": (
        "compiler/ir compiler/ops compiler/ops/vision frontends/onnx/read "
        "frontends/onnx/operators/ai_onnx"
    ),
    "frontends/onnx/operators": (
        "compiler/errors compiler/ir compiler/ir/metadata frontends/onnx/read "
        "frontends/onnx/operators/ai_onnx frontends/onnx/operators/ai_onnx_ml "
        "frontends/onnx/operators/com_microsoft"
    ),
    "frontends/onnx": (
        "compiler/errors compiler/arguments compiler/system compiler/ir "
        "compiler/ir/metadata frontends/onnx/file frontends/onnx/read "
        "frontends/onnx/write frontends/onnx/operators"
    ),
    "frontends/native": (
        "compiler/errors compiler/arguments compiler/system compiler/ir compiler/autodiff runtime"
    ),
    "frontends/keras/functions": "compiler/errors compiler/ir frontends/native",
    "frontends/keras/backend": (
        "compiler/errors compiler/ir frontends/native frontends/keras/functions"
    ),
    "frontends/keras": (
        "compiler/errors compiler/ir compiler/autodiff runtime frontends/onnx frontends/native "
        "frontends/keras/functions frontends/keras/backend"
    ),
    "frontends/native/layers": "compiler/errors frontends/native",
    "frontends": (
        "compiler/errors compiler/arguments compiler/system compiler/ir compiler/compress runtime "
        "runtime/training runtime/compress runtime/execution frontends/onnx/file "
        "frontends/onnx/read frontends/onnx frontends/native"
    ),
    "frontends/user": (
        "compiler/errors compiler/arguments compiler/system compiler/ir compiler/autodiff "
        "compiler/expr compiler/ops runtime frontends/onnx/file frontends/onnx/operators "
        "frontends/native"
    ),
    "__init__": (
        "compiler/errors compiler/options compiler/system compiler/autodiff compiler/rewrite/rules "
        "compiler/targets compiler/driver runtime/base runtime/execution runtime "
        "frontends/onnx frontends/keras frontends"
    ),
    "tools/common": (
        "compiler/errors compiler/system compiler/ir compiler/analysis compiler/passes "
        "compiler/ops/vision compiler/pipelines compiler/backends/llvm/kernel "
        "runtime/base runtime/package runtime/tuning runtime/execution runtime/profiling "
        "frontends/onnx/file frontends/onnx/read frontends/onnx __init__"
    ),
    "tools/benchmark": (
        "compiler/errors compiler/system compiler/ir compiler/compress runtime/execution "
        "runtime/profiling frontends/onnx/file frontends/onnx __init__ tools/common"
    ),
    "tools": (
        "compiler/backends/llvm/schedules "
        "compiler/errors compiler/compress compiler/options compiler/system compiler/ir "
        "compiler/analysis compiler/kernels compiler/backends/llvm/base compiler/backends/triton "
        "compiler/passes compiler/backends/llvm/program runtime/base runtime/native "
        "runtime/compress "
        "runtime/package runtime/tuning runtime/gpu runtime/execution runtime/profiling "
        "runtime/reuse runtime/training frontends/onnx/file frontends/onnx/read "
        "frontends/onnx/write frontends/onnx __init__ tools/common tools/benchmark"
    ),
    "tools/pages": (
        "compiler/errors compiler/ir compiler/ops compiler/backends/triton "
        "compiler/lowering compiler/backends/llvm runtime/base runtime/execution "
        "frontends/onnx/operators frontends/native __init__ tools/common tools"
    ),
}

# Modules whose functions may import, each with the reason.
START = "`import tessel` loads no more than is used"
COMMAND = "a command loads what it needs, when it needs it"
PACKAGE = "a package's code runs, and a second process starts, without the compiler"
LOADED_LATE = "loaded when it is met; most models have no such thing"
KERAS = "what it loads subclasses Keras' own, which has to be there first"
CIRCLE = "the two describe each other: text and graphs, values and types"
IMPORTS_INSIDE: dict[str, str] = {
    "__init__": START,
    "compiler/analysis/all_sizes": PACKAGE,
    "compiler/analysis/run_checks": LOADED_LATE,
    "compiler/backends/llvm/emit/emitter": CIRCLE,
    "compiler/demands": PACKAGE,
    "compiler/driver": PACKAGE,
    "compiler/expr/core": CIRCLE,
    "compiler/ir/builder": LOADED_LATE,
    "compiler/ir/dims": CIRCLE,
    "compiler/ir/graph": CIRCLE,
    "compiler/ir/interpret": LOADED_LATE,
    "compiler/ir/op": CIRCLE,
    "compiler/ir/parse": CIRCLE,
    "compiler/ir/types": CIRCLE,
    "compiler/targets/cpu": PACKAGE,
    "compiler/targets/cuda": PACKAGE,
    "frontends/keras/functions/traced": CIRCLE,
    "frontends/keras/hook": KERAS,
    "frontends/keras/trainer": KERAS,
    "frontends/onnx/file/external": CIRCLE,
    "frontends/sources": START,
    "runtime/base/build": PACKAGE,
    "runtime/base/signature": PACKAGE,
    "runtime/compile": PACKAGE,
    "runtime/execution/empty": PACKAGE,
    "runtime/execution/executable": PACKAGE,
    "runtime/execution/load": PACKAGE,
    "runtime/execution/package": PACKAGE,
    "runtime/execution/pickling": PACKAGE,
    "runtime/execution/session": PACKAGE,
    "runtime/execution/zeros": PACKAGE,
    "runtime/native/linker": PACKAGE,
    "runtime/native/module": PACKAGE,
    "runtime/native/pool": PACKAGE,
    "runtime/native/updating": PACKAGE,
    "runtime/package/container": PACKAGE,
    "runtime/package/native_package": PACKAGE,
    "runtime/tuning/tune": PACKAGE,
    "tools/benchmark/worker": COMMAND,
    "tools/cli": COMMAND,
    "tools/common/feeds": COMMAND,
    "tools/common/models": COMMAND,
    "tools/common/profile_tables": COMMAND,
    "tools/compile": COMMAND,
    "tools/doctor": COMMAND,
    "tools/emit": COMMAND,
    "tools/explain": COMMAND,
    "tools/inspect": COMMAND,
    "tools/run": COMMAND,
    "tools/wheels": COMMAND,
}
