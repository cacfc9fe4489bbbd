"""`tessel verify`: every stage of compilation against numpy, on the same inputs.

    graph       the model's graph, each op by its numpy definition   (--expect: against a file)
    passes      the graph after each pass that changed it
    sizes       the graph with the sizes of these inputs put in
    loops       the lowered program, interpreted by numpy
    native      machine code, on one thread and on several
    other sizes the executable at further sizes of dynamic dims (`verify_sizes.py`)

The first stage that differs is named, and in it the first node: values are compared by their
names, kernel by kernel where there are kernels.
"""

import time
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

import click
import numpy as np

from ..compiler.classes import dataclass
from ..compiler.errors import CheckFailed, TesselError, UsageError
from ..compiler.ir.bounds import fits
from ..compiler.ir.graph import Graph, Node
from ..compiler.ir.interpret import interpret
from ..compiler.options import Options
from ..compiler.system.cores import check_threads
from ..runtime.base.build import Built
from ..runtime.base.signature import Signature
from ..runtime.execution.executable import Executable
from ..runtime.execution.session import Session
from ..runtime.profiling.stepwise import step_native, step_numpy
from .common.activity import Activity
from .common.agreement import TOLERANCE, disagreement
from .common.given import load_npz, read_folder
from .common.interface import of_graph
from .common.models import (
    MODEL,
    given_for,
    inputs_options,
    level_option,
    open_for,
    shapes_option,
    target_option,
    threads_option,
)
from .common.structures import is_plain
from .common.tables import console, duration
from .compare import against_option, verify_against
from .verify_sizes import OtherSizes

EPILOG = """\b
Examples:
  tessel verify model.onnx
  tessel verify model.onnx --inputs in.npz --expect out.npz
  tessel verify model.onnx --shapes x:1x3x224x224 --rtol 1e-4
  tessel verify int8.onnx --against model.onnx --inputs x.npz --sqnr 25
"""


@click.command(epilog=EPILOG)
@click.argument("model", type=MODEL)
@inputs_options
@shapes_option
@click.option(
    "--expect",
    metavar="FILE",
    help="A .npz of the right outputs by name, or a folder of output_0.pb, ….",
)
@click.option(
    "--rtol",
    type=click.FloatRange(0),
    help="Allowed error, as a share of an output's largest magnitude; default: by dtype "
    f"({', '.join(f'{n} {t:g}' for n, t in TOLERANCE.items())}, others 0).",
)
@click.option(
    "--atol",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Error that is always allowed.",
)
@click.option(
    "--other-sizes",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to try other sizes of dynamic dims: each is 1, equal to others and not.",
)
@against_option(
    "The model that MODEL was quantized from; its kernels are compared with that one's."
)
@click.option(
    "--sqnr",
    type=float,
    default=20.0,
    show_default=True,
    metavar="DB",
    help="With --against: the least signal to noise that a kernel may have.",
)
@target_option
@level_option
@threads_option
def verify(
    model,
    inputs,
    seed,
    shapes,
    expect,
    rtol,
    atol,
    other_sizes,
    against,
    sqnr,
    target,
    opt_level,
    threads,
):
    """Compile MODEL and compare each stage with numpy; exit with 1 where one differs."""
    if against is not None:
        verify_against(model, against, inputs, shapes, sqnr, seed)
        return
    with Activity(f"reading {model}") as activity:
        given = given_for(model, inputs)
        graph = open_for(model, shapes, given, seed)
        signature = Signature.of(graph)
        feeds = of_graph(graph).feeds(given, seed, shapes, model)
        arrays, binding = signature.check(feeds)
        check = Verification(graph, arrays, binding, rtol, atol, activity=activity)
        expected = None if expect is None else read_expected(expect, signature)
        session = Session.open(target, Options(opt_level), progress=activity)
        threads = check_threads(threads)
        optimized, for_all = check.run(session, threads, expected)
        others = ""
        if signature.symbols and is_plain(signature.inputs) and not signature.values:
            exe = Executable(optimized, session, threads=threads)
            if for_all is not None:
                exe.open(for_all)
            others = OtherSizes(
                exe,
                lambda concrete: open_for(model, shapes | concrete, given),
                check.compare,
                check.line,
                seed or 0,
            ).run(other_sizes)
    if others:
        check.out.print(others)
    check.out.print("all stages agree", style="green")


def read_expected(path: str, signature: Signature) -> dict[str, np.ndarray]:
    """The right outputs by name: of a `.npz`, or of a folder as ONNX's tests have."""
    if Path(path).is_dir():
        return read_folder(Path(path), "output", signature.outputs)
    return load_npz(path)


@dataclass
class Verification:
    """Runs the stages and prints a line for each. `reference` are the graph's outputs."""

    graph: Graph
    arrays: list[np.ndarray]
    binding: dict[str, int]
    rtol: float | None = None
    atol: float = 0.0
    out: object = field(default_factory=console)
    activity: Activity = field(default_factory=lambda: Activity(""))

    def run(
        self, session: Session, threads: int, expected: Mapping | None
    ) -> tuple[Graph, Built | None]:
        """All stages: the optimized graph, and the code for all sizes, if there is such. Raises
        CheckFailed at the first one that differs."""
        self.values: dict[str, np.ndarray] = {}
        start = time.perf_counter()
        self.reference = interpret(self.graph, self.arrays, observer=self._remember)
        self._expected(expected, time.perf_counter() - start)
        optimized = session.optimize(self.graph, observer=self._after_pass)
        built = self._sizes(optimized, session)
        name = session.target.name
        if built.stages:
            self._stages(built, optimized, session, threads)
            return optimized, self._all_sizes(optimized, session, threads)
        self._stage(
            "loops",
            lambda: step_numpy(built.program, self._inputs(), lambda step: None),
            lambda: self._find_kernel(step_numpy, built.program, built.graph),
        )
        for n in dict.fromkeys((1, threads)):
            if name == "numpy":
                break
            self._stage(
                f"{name}, threads: {n}",
                lambda n=n: built.module(self._inputs(), n),
                lambda: self._find_native(built, session),
            )
        return optimized, self._all_sizes(optimized, session, threads)

    def _stages(self, built: Built, graph: Graph, session: Session, threads: int) -> None:
        """A model that runs in stages, as a whole: each kind of loops on all of them in turn."""
        loops = Session.open("numpy", session.options).build(graph, self.binding)
        for n in dict.fromkeys((1, threads)):
            for name, b in (("loops", loops), (session.target.name, built)):
                title = f"{name}, {len(b.stages)} stages, threads: {n}"
                self._stage(title, lambda b=b, n=n: b.module(self._inputs(), n), lambda: None)

    def _inputs(self) -> list[np.ndarray]:
        """Copies: a graph with updates writes into its inputs."""
        return [a.copy() for a in self.arrays]

    def _remember(self, node: Node, results: list) -> None:
        self.values |= {v.name: x for v, x in zip(node.outputs, results)}

    # -- stages ---------------------------------------------------------------------------

    def _expected(self, expected: Mapping | None, seconds: float) -> None:
        nodes = sum(n.op.name != "constant" for n in self.graph.nodes)
        label = f"graph: {nodes} nodes"
        if expected is None:
            self.line(label, None, seconds, "reference")
            return
        names = self.graph.output_names
        known = [n for n in names if n in expected]
        if not known:
            raise UsageError(
                "--expect has none of the model's outputs",
                expected=", ".join(names),
                received=", ".join(expected),
            )
        given = [self.reference[names.index(n)] for n in known]
        error, wrong = self.compare([expected[n] for n in known], given)
        self.line(label, error, seconds, wrong)
        if wrong is not None:
            raise CheckFailed(
                "the graph does not give the expected outputs",
                received=wrong,
                fix="the file was made by something that computes otherwise, or an op is misread",
            )

    def _after_pass(self, action, graph: Graph, changed: bool) -> None:
        if changed:
            self._stage(
                f"pass {action.name}",
                lambda: interpret(graph, self._inputs()),
                lambda: self._find_node(graph),
            )

    def _sizes(self, graph: Graph, session: Session) -> Built:
        start = time.perf_counter()
        built = session.build(graph, self.binding)
        seconds = time.perf_counter() - start
        if self.binding:
            sizes = ", ".join(f"{k}={v}" for k, v in self.binding.items())
            self._stage(
                f"sizes {sizes}",
                lambda: interpret(built.graph, self._inputs()),
                lambda: self._find_node(built.graph),
            )
        # From here on the built graph's own values are what kernels are compared with.
        self.values = {}
        interpret(built.graph, self._inputs(), observer=self._remember)
        if built.stages:
            self.line(f"compiled: {len(built.stages)} stages", None, seconds, "")
            return built
        kernels = sum(1 for _ in built.program.kernels())
        self.line(f"compiled: {kernels} kernels", None, seconds, "")
        return built

    def _all_sizes(self, graph: Graph, session: Session, threads: int) -> Built | None:
        """The code that takes sizes when it runs, where there is such."""
        if not self.binding or not session.target.dynamic_shapes:
            return None
        try:
            built = session.build_dynamic(graph)
        except (TypeError, TesselError):
            return None
        if not fits(built.code.conditions, self.binding, built.code.equations):
            return built
        module = built.module.bound(self.binding)
        for n in dict.fromkeys((1, threads)):
            self._stage(
                f"{session.target.name}, all sizes, threads: {n}",
                lambda n=n: module(self._inputs(), n),
                lambda: "a kernel that is right for these sizes alone",
            )
        return built

    def _stage(self, name: str, compute, locate) -> None:
        self.activity.show(name)
        start = time.perf_counter()
        outputs = compute()
        seconds = time.perf_counter() - start
        error, wrong = self.compare(self.reference, outputs)
        self.line(name, error, seconds, wrong)
        if wrong is not None:
            raise CheckFailed(f"{name} differs", where=locate(), received=wrong)

    def line(self, name: str, error: float | None, seconds: float, wrong=None) -> None:
        """One stage: its error, or (None) the word that stands in its place."""
        if error is None:
            shown, verdict = wrong, ""
        else:
            shown, verdict = f"{error:.1e}", "ok" if wrong is None else "differs"
        with self.activity.paused():
            self.out.print(f"{name:40s} {shown:>10s}  {verdict:8s}{duration(1e3 * seconds):>9s}")

    def compare(self, right: list, given: list) -> tuple[float, str | None]:
        """The largest error, and what is wrong if it is not allowed."""
        error, wrong = disagreement(right, given, self.rtol)
        if wrong is not None and self.atol > 0 and self._within(right, given):
            return error, None
        return error, wrong

    def _within(self, right: list, given: list) -> bool:
        return len(right) == len(given) and all(
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and a.shape == b.shape
            and np.allclose(
                b.astype(float), a.astype(float), rtol=0, atol=self.atol, equal_nan=True
            )
            for a, b in zip(right, given)
        )

    # -- where ----------------------------------------------------------------------------

    def _differs(self, name: str, x) -> bool:
        known = self.values.get(name)
        if not isinstance(known, np.ndarray) or not isinstance(x, np.ndarray):
            return False
        if known.shape != x.shape or known.dtype != x.dtype:
            return False  # another value that happens to have the name
        return self.compare([known], [x])[1] is not None

    def _find_node(self, graph: Graph) -> str:
        """The first node whose value differs from that of the same name before."""
        found: list[str] = []

        def observe(node: Node, results: list) -> None:
            if node.op.name == "constant":
                return  # the node that reads it says more
            for v, x in zip(node.outputs, results):
                if not found and self._differs(v.name, x):
                    found.append(f"{node.where} ({node.op.name} %{v.name})")

        interpret(graph, self._inputs(), observer=observe)
        if found:
            return found[0]
        last = [v.node for v in graph.outputs if v.node is not None]
        return f"what leads to {last[0].where}" if last else "an output"

    def _find_kernel(self, stepper, subject, graph: Graph) -> str:
        """The first kernel of which an output differs from the graph's value of its name.

        A value that several kernels store in pieces is compared after the last of them.
        """
        writers: dict[str, int] = {}
        wrong: dict[str, tuple[int, str]] = {}
        count = 0

        def observe(step) -> None:
            nonlocal count
            count += 1
            if step.kernel is None or step.inside:
                return
            for name, x in step.outputs.items():
                writers[name] = count
                wrong.pop(name, None)
                known = self.values.get(name)
                if known is not None and known.size == x.size and known.dtype == x.dtype:
                    x = x.reshape(known.shape)
                if self._differs(name, x):
                    where = ", ".join(step.origins) or step.kernel.name
                    wrong[name] = (count, f"{where} ({step.kernel.name} %{name})")

        stepper(subject, self._inputs(), observe)
        return min(wrong.values())[1] if wrong else "no single kernel: how they are put together"

    def _find_native(self, built: Built, session: Session) -> str:
        if not session.target.native:
            return "the first kernel is not looked for on this target"
        return self._find_kernel(step_native, built, built.graph)
