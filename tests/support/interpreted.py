"""An executable that runs its graph with numpy, for tests of what makes graphs."""

import functools

import numpy as np
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.verify import verify
from tessel.frontends import native


class Interpreted:
    """`run` and `bind` as `runtime/execution/executable.py` has them; `made` counts executables."""

    made = 0

    def __init__(self, graph):
        verify(graph)
        self.graph, self.bound = graph, {}
        names = [v.name for v in graph.inputs]
        self.targets = {graph.output_names[o]: names[i] for o, i in graph.updates.items()}
        Interpreted.made += 1

    def bind(self, name, array):
        self.bound[name] = array.copy()
        return self.bound[name]

    def run(self, feeds):
        feeds = {**feeds, **self.bound}
        values = interpret(self.graph, [feeds[v.name] for v in self.graph.inputs])
        results = dict(zip(self.graph.output_names, values))
        for name, target in self.targets.items():
            if target in self.bound:
                np.copyto(self.bound[target], results.pop(name))
        return results


jit, grad, value_and_grad = (
    functools.partial(f, compile=Interpreted)
    for f in (native.jit, native.grad, native.value_and_grad)
)
