"""`Options`: everything a user may say that decides what code is made of a graph.

    options = Options(opt_level=1, strict=True)
    options.key()                    plain data, equal for equal options and for no others
    options.to_dict()                what a package says of them
    Options.from_dict(manifest)      also of a package that an older version wrote

The target is no option: it is what code is made for (`compiler/targets/`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Integral
from typing import Any

from .classes import dataclass
from .errors import UsageError

SWITCHES = ("strict", "unchecked", "verify_bounds")


# Recipes that choose nothing from data (compress/recipe.py).
WITHOUT_DATA = (
    *("int8-dynamic", "int8-weights", "int4", "int4-int8"),
    *("fp8", "fp8-e5m2", "mxfp8", "mxfp4", "nf4"),
)


@dataclass(frozen=True)
class Options:
    """Raises UsageError for values that no compilation can meet.

    opt_level      0 nothing is rewritten … 2 the default, 3 (`pipelines.py`)
    strict         refuse what would run outside compiled code; keep the order of sums
    precision      how f32 products are computed: None exactly; else what the target offers
    quantize       None: the model's own weights; else a recipe that needs no data
    prune          None: the model's own weights
    unchecked      take the nearest index inside for one that is out of range
    verify_bounds  prove that code stays inside its arrays
    passes         None: those of the level; else a text that names them (`passes/named.py`)
    """

    opt_level: int = 2
    strict: bool = False
    precision: str | None = None
    quantize: str | None = None
    prune: None = None
    unchecked: bool = False
    verify_bounds: bool = False
    passes: str | None = None

    def __post_init__(self) -> None:
        level = self.opt_level
        if isinstance(level, bool) or not isinstance(level, Integral) or not 0 <= level <= 3:
            raise UsageError("unknown optimisation level", expected="0, 1, 2, 3", received=level)
        object.__setattr__(self, "opt_level", int(level))
        for name in SWITCHES:
            value = getattr(self, name)
            if isinstance(value, (str, bytes)) or value not in (0, 1):
                raise UsageError(
                    f"{name} is a switch", expected="True or False", received=repr(value)
                )
            object.__setattr__(self, name, bool(value))
        if self.passes is not None and not isinstance(self.passes, str):
            raise UsageError(
                "passes are named in a text",
                received=repr(self.passes),
                expected="'NAME{FIELD=VALUE},NAME,…', as in 'default,combine_products{least=3}'",
            )
        if self.quantize is not None and self.quantize not in WITHOUT_DATA:
            raise UsageError(
                "quantize names no recipe that needs no data",
                expected=", ".join(WITHOUT_DATA),
                received=repr(self.quantize),
                fix="with data, or a recipe of your own: compile(tessel.quantize(model, data, …))",
            )
        if self.prune is not None:
            raise not_supported("prune", self.prune)

    @property
    def exact(self) -> bool:
        """Whether sums keep the order that the model has, so that rounding errors do not grow."""
        return self.strict or self.opt_level < 2

    def key(self) -> tuple[tuple[str, Any], ...]:
        """Equal for equal options, and for no others, also as text."""
        return tuple((f.name, getattr(self, f.name)) for f in fields(self))

    def to_dict(self) -> dict[str, Any]:
        """What packages say: JSON. Options that say nothing are left out; `verify_bounds` is about
        a compilation, not about its code."""
        said = {"level": self.opt_level, "strict": self.strict, "checked": not self.unchecked}
        for name in ("precision", "passes", "quantize"):
            if getattr(self, name) is not None:
                said[name] = getattr(self, name)
        return said

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> "Options":
        """The options of a package; other entries of its manifest are left alone. Raises KeyError,
        UsageError for nonsense."""
        checked = said.get("checked", True)  # older packages do not say
        return cls(
            said["level"],
            said["strict"],
            said.get("precision"),
            said.get("quantize"),
            unchecked=not checked,
            passes=said.get("passes"),
        )


def not_supported(
    name: str, value: object, target: str = "", known: Sequence[str] = ()
) -> UsageError:
    """The UsageError for an option that is not there, or that a target has not."""
    others = "".join(f", or {k}" for k in known)
    return UsageError(
        f"{name} is not supported" + (f" by the target {target}" if target else ""),
        expected=f"None: as the model says{others}",
        received=repr(value),
        fix=f"leave out {name}, or convert the model with its own tools before compiling",
    )
