"""`Recipe`: how a model is quantized, as a frozen dataclass and as a TOML file.

    recipe = Recipe.of("int8", observer="percentile", keep=("*head*",))
    recipe.save("r.toml"); recipe = Recipe.load("r.toml")

What a calibration chose is written back: `scales` by value, and the hash of the data. A recipe with
scales needs no data, and gives the same bytes whenever it is applied to the same model.
"""

import difflib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import field, fields, replace
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Self

from ..classes import dataclass
from ..errors import UsageError
from ..system.files import write_file

FLOATS = ("fp8", "fp8-e5m2", "mxfp8", "mxfp4", "nf4")  # entries of `tables.TABLES`
DTYPES = ("i8", "i4", "i3", "i2", *FLOATS, "f32")
ACTIVATIONS = ("f32", "u8", "i8", "u4", "i4", "dynamic")
GRANULARITIES = ("tensor", "channel", "block")
OBSERVERS = ("auto", "minmax", "moving_average", "percentile", "entropy", "mse")
SUMS = ("quantized", "float", "auto")
EQUALIZATIONS = ("none", "smoothquant", "cross-layer", "awq")
PLACEMENTS = ("time", "all")
TRAINED = ("adaround", "autoround")
ROUNDINGS = ("nearest", "mse", "hqq", "gptq", "awq", *TRAINED)


class Scale(NamedTuple):
    """What a number q of a value stands for, scale * (q - zero), and the observer that chose it."""

    scale: float
    zero: int
    observer: str = ""


@dataclass(frozen=True)
class Recipe:
    """How a model is quantized. Raises UsageError for what there is not.

    name             of the preset that it began as
    dtype            of weights: i8, i4, i3, i2, or f32 (left as they are); of weights alone fp8
                     (E4M3) and fp8-e5m2, nf4 (quantiles of a normal distribution), and mxfp8 and
                     mxfp4, whose scales are powers of two
    granularity      one scale per tensor, per output channel, or per block of `block` weights
    symmetric        whether weights have no zero point
    activations      f32; u8, i8, u4, i4 with scales from data; dynamic: u8, scales of each run
    observer         what chooses ranges: minmax, moving_average, percentile, entropy, mse, or auto,
                     which takes for each tensor the one with the least error
    percentile       how much of the values the observer of that name keeps inside, in percent
    sums             what residual sums read where a product reads the same value: its bytes
                     (quantized), or floats; auto: bytes where it is large and not negative
    placement        time: products that would take longer as bytes, as the compiler predicts it for
                     this machine, stay f32 as long as these have few of the weights; all: none of
                     them stays for that
    small            share of the multiplications that may stay f32, in the smallest products
    rounding         of weights: nearest; mse, the scales of least squared error; hqq (large weights
                     count less); from data gptq (mse for products whose data are no rows), awq
                     (mse with equalize="awq"), and adaround and autoround, which are trained
                     segment by segment
    steps            of training for each segment, with adaround and autoround
    equalize         channels of data and of weights are rescaled against one another before:
                     smoothquant (data that is easier to round) and awq (finer steps for weights
                     that meet large data) choose from data, cross-layer (equal ranges in products
                     one after another) from weights
    bias_correction  whether biases take back the mean error that rounded weights cause, for
                     activations with scales from data; auto: unless the rounding is trained, which
                     takes care of that
    keep             patterns (*, ?, […]) of nodes of the model that stay as they are
    data             hash of the data from which scales and shifts were chosen
    scales           of activations by value, as a calibration chose them
    shifts           of each product's outputs, which the bias correction adds
    """

    name: str = "int8"
    dtype: str = "i8"
    granularity: str = "channel"
    block: int = 32
    symmetric: bool = True
    activations: str = "u8"
    observer: str = "auto"
    percentile: float = 99.99
    sums: str = "auto"
    placement: str = "time"
    small: float = 0.02
    rounding: str = "nearest"
    steps: int = 500
    equalize: str = "none"
    bias_correction: bool | str = "auto"
    keep: tuple[str, ...] = ()
    data: str = ""
    scales: Mapping[str, Scale] = field(default_factory=dict)
    shifts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.keep, str):
            object.__setattr__(self, "keep", (self.keep,))
        object.__setattr__(self, "keep", tuple(self.keep))
        scales = {n: Scale(float(s[0]), int(s[1]), *s[2:3]) for n, s in self.scales.items()}
        object.__setattr__(self, "scales", scales)
        shifts = {n: tuple(map(float, s)) for n, s in self.shifts.items()}
        object.__setattr__(self, "shifts", shifts)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f"a recipe's {name} is none of those that there are",
                    expected=", ".join(map(str, known)),
                    received=repr(getattr(self, name)),
                    fix=nearest(getattr(self, name), known),
                )
        if not (isinstance(self.block, int) and self.block >= 2):
            raise UsageError(
                "a block has at least two weights", received=repr(self.block), fix="block=32"
            )
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise UsageError(
                "rounding is learned in at least one step",
                received=repr(self.steps),
                fix="steps=500",
            )
        if not 0 <= float(self.small) <= 1:
            raise UsageError(
                "a share is between 0 and 1", received=repr(self.small), fix="small=0.02"
            )
        if self.bias_correction is True and self.activations in ("f32", "dynamic"):
            raise UsageError(
                "biases are corrected where activations have scales from data",
                expected=", ".join(a for a in ACTIVATIONS if a not in ("f32", "dynamic")),
                received=f"activations={self.activations!r}",
                fix="leave out bias_correction, or begin with the recipe int8",
            )
        how = (self.activations, self.rounding, self.equalize)
        if self.dtype in FLOATS and how != ("f32", "nearest", "none"):
            raise UsageError(
                "weights that are entries of a table are rounded to the nearest, and multiplied by "
                "floats",
                expected="activations='f32', rounding='nearest', equalize='none'",
                received="activations={!r}, rounding={!r}, equalize={!r}".format(*how),
                fix=f"begin with the recipe {self.dtype}",
            )
        if self.equalize == "smoothquant" and self.activations == "f32":
            raise UsageError(
                "smoothquant makes activations easier to round, which this recipe does not round",
                received="activations='f32'",
                fix="equalize='awq' is for weights; or begin with int8 or int8-dynamic",
            )
        if self.rounding == "awq" and self.equalize not in ("none", "awq"):
            raise UsageError(
                "awq rescales channels itself",
                received=f"rounding='awq', equalize={self.equalize!r}",
                fix="leave one of them out",
            )
        if not 50 < float(self.percentile) <= 100:
            raise UsageError(
                "a percentile is above 50 and at most 100",
                received=repr(self.percentile),
                fix="percentile=99.99",
            )

    @classmethod
    def of(cls, recipe: "str | PathLike[str] | Recipe | Mapping[str, Any]", **changes: Any) -> Self:
        """A recipe from the name of a preset, a TOML file, its fields, or another recipe."""
        if isinstance(recipe, cls):
            found = recipe
        elif isinstance(recipe, Mapping):
            found = cls._from_fields(recipe, "the recipe")
        elif isinstance(recipe, str) and recipe in PRESETS:
            found = cls._from_fields({"name": recipe, **PRESETS[recipe]}, recipe)
        elif isinstance(recipe, (str, PathLike)) and Path(recipe).suffix == ".toml":
            found = cls.load(recipe)
        else:
            raise UsageError(
                "unknown recipe",
                expected=f"{', '.join(PRESETS)}, a .toml file, or a tessel.Recipe",
                received=repr(recipe),
                fix=nearest(recipe, PRESETS),
            )
        return replace(found, **_known_fields(changes, "the recipe")) if changes else found

    @classmethod
    def _from_fields(cls, said: Mapping[str, Any], where: str) -> Self:
        return cls(**_known_fields(said, where))

    @property
    def needs_data(self) -> bool:
        """Whether something has to be chosen that only data can tell."""
        return self.activations not in ("f32", "dynamic") and not self.scales

    @property
    def chooses_weights(self) -> bool:
        """Whether weights, or what is added to biases, are chosen from data."""
        by_data = self.rounding in ("gptq", *TRAINED)
        by_data |= self.bias_correction is True and not self.shifts
        return by_data or self.equalization in ("smoothquant", "awq")

    @property
    def corrects_biases(self) -> bool:
        """Whether biases take back mean errors, where there is data."""
        if self.activations in ("f32", "dynamic"):
            return False
        if self.bias_correction == "auto":
            return self.rounding not in TRAINED
        return bool(self.bias_correction)

    @property
    def equalization(self) -> str:
        """How channels are rescaled, which the rounding may say, too."""
        return "awq" if self.rounding == "awq" else self.equalize

    @property
    def is_blocked(self) -> bool:
        """Whether weights become codes that products read as such (`blocks.py`)."""
        return self.activations == "f32" or self.granularity == "block"

    def keeps(self, *names: str) -> str | None:
        """The pattern by which one of these names stays as it is, or None."""
        for pattern in self.keep:
            if any(fnmatchcase(name, pattern) for name in names):
                return pattern
        return None

    # -- as a file --------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """The recipe in a TOML file; `preset = "int8"` stands for the fields of that."""
        try:
            said = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UsageError("the recipe cannot be read", where=str(path), received=error) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError("the recipe is no TOML", where=str(path), received=error) from None
        preset = said.pop("preset", None)
        if preset is not None and preset not in PRESETS:
            raise UsageError(
                "unknown preset",
                where=str(path),
                expected=", ".join(PRESETS),
                received=repr(preset),
                fix=nearest(preset, PRESETS),
            )
        base = {} if preset is None else {"name": preset, **PRESETS[preset]}
        return cls._from_fields({**base, **said}, str(path))

    def save(self, path: str | PathLike[str]) -> None:
        """Write a TOML file that `load` reads."""
        write_file(Path(path), self.to_toml().encode(), UsageError)

    def to_toml(self) -> str:
        """The fields in their order, and the scales as a table."""
        lines = [f"{f.name} = {_toml(getattr(self, f.name))}" for f in fields(self)[:-3]]
        if self.data:
            lines.append(f"data = {_toml(self.data)}")
        if self.scales:
            lines += ["", "[scales]  # value = [scale, zero point, observer]"]
            lines += [f"{_toml(n)} = {_toml(list(s))}" for n, s in self.scales.items()]
        if self.shifts:
            lines += ["", "[shifts]  # product = what is added to each of its outputs"]
            lines += [f"{_toml(n)} = {_toml(s)}" for n, s in self.shifts.items()]
        return "\n".join(lines) + "\n"


CHOICES: dict[str, tuple[Any, ...]] = {
    "dtype": DTYPES,
    "granularity": GRANULARITIES,
    "activations": ACTIVATIONS,
    "observer": OBSERVERS,
    "sums": SUMS,
    "placement": PLACEMENTS,
    "rounding": ROUNDINGS,
    "equalize": EQUALIZATIONS,
    "bias_correction": (True, False, "auto"),
}

# What each preset says beside the defaults.
PRESETS: dict[str, dict[str, Any]] = {
    "int8": {},
    "int8-dynamic": {"activations": "dynamic"},
    "int8-weights": {"activations": "f32"},
    "int4": {"dtype": "i4", "granularity": "block", "symmetric": False, "activations": "f32"},
}
PRESETS |= {
    name: {"dtype": name, "granularity": "channel" if block == 0 else "block", "activations": "f32"}
    | ({"block": block} if block else {})
    for name, block in zip(FLOATS, (0, 0, 32, 32, 64))
}
PRESETS["int4-int8"] = PRESETS["int4"] | {"activations": "dynamic"}


def nearest(name: object, known: Any) -> str | None:
    """Advice for a name that is misspelt, or None."""
    found = difflib.get_close_matches(str(name), list(known), 1, 0.5)
    return f"did you mean {found[0]!r}?" if found else None


def _known_fields(said: Mapping[str, Any], where: str) -> dict[str, Any]:
    names = [f.name for f in fields(Recipe)]
    for name in said:
        if name not in names:
            raise UsageError(
                f"a recipe has no field {name!r}",
                where=where,
                expected=", ".join(names),
                fix=nearest(name, names),
            )
    return dict(said)


def _toml(value: Any) -> str:
    """A value as TOML writes it: as JSON does, but for floats without a point."""
    if isinstance(value, (tuple, list)):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False)
