"""The errors of a quantized model as a picture: signal to noise along the model, and times.

draw(path, comparison, title)      a point per kernel, what errs most by its name
"""

from ...compiler.compress.comparison import EXACT, LINES, Comparison
from ..common.pictures import pyplot
from ..common.tables import short

NAMED = 5  # kernels that are named, those that err most by themselves
WIDTH, HEIGHT = 11.0, 5.5  # inches
LONGEST = 40  # letters of a name


def draw(path: str, comparison: Comparison, title: str) -> None:
    """Write it in the format that the path's ending says. Raises UnsupportedError."""
    kernels = comparison.kernels
    figure = pyplot().figure.Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(kernels))
    for label, color, of in LINES:
        heights = [min(of(k), EXACT) for k in kernels]
        axes.plot(places, heights, color=color, label=label, marker="o", markersize=3, linewidth=1)
    named = [k for k in comparison.worst[:NAMED] if k.own < EXACT]
    for k in named:
        at = (kernels.index(k), k.own)
        axes.annotate(short(k.nodes, LONGEST), at, (3, -10), textcoords="offset points", fontsize=8)
    axes.set_title("\n".join([title, *comparison.heads()]), fontsize=9, loc="left")
    axes.set_xlabel("kernel, in the order of the model")
    axes.set_ylabel("signal to noise, dB (20 is a tenth off)")
    axes.grid(True, color="#e5e9f0")
    axes.legend()
    figure.savefig(path)
