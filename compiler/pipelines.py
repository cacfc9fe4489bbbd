"""The passes of each optimisation level, in order, each with its reason.

-O0   what is dead goes; nothing else changes
-O1   what keeps every result to the last bit but for the sign of zeros (see algebra.EXACT)
-O2   what changes results by a few units in the last place: weights absorb scales,
      normalisations and attention are recognised, divisions become products
-O3   what is worth it for some models only: products that read the same operand become one larger
      product, whose results are slices
"""

from .passes.base import Pipeline, Step
from .passes.cleanup import (
    CommonSubexpressionElimination,
    DeadCodeElimination,
    FoldConstantBranches,
    FoldConstants,
    RemoveIdentities,
)
from .passes.cpu.half import PromoteHalf
from .passes.cpu.padding import SplitPadding
from .passes.cpu.phases import ConvTransposePhases
from .passes.cpu.scans import ScanInOrder
from .passes.cpu.strassen import Strassen
from .passes.cpu.winograd import Winograd
from .passes.cpu.winograd_integers import WinogradIntegers
from .passes.expand import ExpandComposites
from .passes.layout import ChannelsLast
from .passes.suppress import SuppressLazily
from .rewrite.engine import Rewrite
from .rewrite.rules.algebra import EXACT, FAST
from .rewrite.rules.attention import ATTENTION
from .rewrite.rules.blocks import BLOCKS
from .rewrite.rules.conv import CONVS, GEMMS
from .rewrite.rules.einsum import EINSUMS
from .rewrite.rules.norm import NORMS
from .rewrite.rules.products import FLATTENS, CombineProducts
from .rewrite.rules.quantized import INTEGERS, TOLD_APART
from .rewrite.rules.requantize import REQUANTIZE
from .rewrite.rules.reshapes import RESHAPES

CLEANUP = (
    Step(
        DeadCodeElimination(), "models carry nodes nobody reads; nothing below should look at them"
    ),
    Step(
        Rewrite("tell_apart", TOLD_APART),
        "a model in training as the quantized one: its weights are folded to bytes, not to floats",
    ),
    Step(RemoveIdentities(), "so that patterns see through dropout, identity and empty casts"),
    Step(FoldConstants(), "weights as the exporter computes them become plain constants"),
    Step(FoldConstantBranches(), "a branch on a constant is no branch"),
    Step(CommonSubexpressionElimination(), "patterns compare values: equal ones have to be one"),
)


def default_pipeline(
    opt_level: int = 2, *, channels_last: bool = False, vector_bytes: int = 0
) -> Pipeline:
    """The passes of `-O{opt_level}`. `channels_last` is for targets whose convolutions want it: all
    of them, or, on CPUs with vectors of `vector_bytes`, those that it makes faster."""
    if opt_level <= 0:
        return Pipeline((CLEANUP[0],))
    exact = Step(Rewrite("simplify", (*EXACT, *RESHAPES)), "fewer nodes, same results")
    last = (
        Step(CommonSubexpressionElimination(), "rewrites make equal nodes"),
        Step(DeadCodeElimination(), "and leave some without readers"),
    )
    if opt_level == 1:
        return Pipeline((*CLEANUP, exact, *last))
    products: tuple[Step, ...] = ()
    layout: tuple[Step, ...] = ()
    if opt_level >= 3:
        products = (Step(CombineProducts(), "queries, keys and values by one product"),)
    if channels_last:
        layout = (
            Step(
                ChannelsLast(vector_bytes),
                "neighbours in memory are the channels that a conv sums over",
            ),
            Step(FoldConstants(), "weights change their layout while compiling"),
            Step(
                Rewrite("cancel_transposes", (*RESHAPES, *FLATTENS)),
                "transposes meet and cancel, or end in the rows of a classifier's weights",
            ),
        )
    return Pipeline(
        (
            *CLEANUP,
            Step(
                Rewrite("integers", INTEGERS),
                "quantized products sum bytes; before weights' floats are looked at",
            ),
            Step(
                Rewrite("recognize", (*NORMS, *EINSUMS, *RESHAPES)),
                "before arithmetic is rewritten, pieces look as exporters write them",
            ),
            Step(
                Rewrite("attention", (*ATTENTION, *RESHAPES)),
                "needs softmax, and its transposes merged",
            ),
            exact,
            Step(Rewrite("lower_gemm", GEMMS), "gemm as a product and a sum, which fuse"),
            Step(FoldConstants(), "scales of quantized factors are multiplied while compiling"),
            Step(Rewrite("blocks", BLOCKS), "weights of few bits stay packed in their products"),
            Step(Rewrite("requantize", REQUANTIZE), "one multiply-add, and no quotients"),
            Step(
                Rewrite("absorb", (*CONVS, *FAST, *EXACT, *RESHAPES)),
                "scales and shifts of constants move into weights",
            ),
            Step(Rewrite("recognize_again", NORMS), "scales that arrived at a norm"),
            *products,
            *layout,
            *last,
        )
    )


def cpu_pipeline(
    *,
    winograd: bool = True,
    strassen: bool = True,
    vector_bytes: int = 64,
    cpu: str = "",
    wide: bool = False,
) -> Pipeline:
    """What the CPU backend wants done to an optimised graph before it is lowered for vectors of so
    many bytes, on the core that LLVM calls `cpu` (`analysis/core_model.py`). `winograd` and
    `strassen` allow sums to be rearranged so that rounding errors grow; `wide` makes 16 bits of
    bytes that are padded, for CPUs that have no products of bytes."""
    fewer: tuple[Step, ...] = ()
    if winograd:
        fewer += (Step(Winograd(vector_bytes, cpu), "a quarter of the products for 3 x 3 taps"),)
    if strassen:
        fewer += (Step(Strassen(vector_bytes, cpu), "seven of eight products for large weights"),)
    return Pipeline(
        (
            Step(PromoteHalf(), "vector units compute in f32; halves are for memory and borders"),
            Step(ConvTransposePhases(vector_bytes, winograd, cpu), "no tap is asked if it divides"),
            *fewer,
            Step(SuppressLazily(), "only the best of many boxes are looked at"),
            Step(ScanInOrder(), "one core adds up as it goes along"),
            Step(ExpandComposites(), "what is inside of them can be folded"),
            Step(
                WinogradIntegers(vector_bytes, wide, cpu),
                "Winograd's for bytes, of which no bit is lost",
            ),
            Step(SplitPadding(wide), "convolutions that read inside their input only"),
            Step(FoldConstants(), "weights that expansions transpose, halves that became f32"),
            Step(DeadCodeElimination(), "the weights that these were made of"),
        )
    )


def known_passes() -> dict[str, Step]:
    """Every pass of the pipelines above by its name, as it first stands in one: what `--passes` may
    name (`named.py`)."""
    known: dict[str, Step] = {}
    for step in (*default_pipeline(3, channels_last=True), *cpu_pipeline()):
        known.setdefault(step.action.name, step)
    return known
