"""Passes by name, with their fields as options: what `--passes` and `Options.passes` say.

    passes   :=  pass ("," pass)*
    pass     :=  name [ "{" field "=" value ("," field "=" value)* "}" ]  |  "default"

    "default,combine_products{least=3}"     the passes of the level, then one more
    "dce,fold_constants"                    these two and no others

A pass is a frozen dataclass, so its fields are all that there is to say: numbers, switches, words.
What a target wants before lowering comes after these passes in any case.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace

from ..errors import UsageError
from .base import Pass, Pipeline, Step

DEFAULT = "default"
_ITEM = re.compile(r"\s*(\w+)\s*(?:\{([^{}]*)\})?\s*(,|$)")
_FIELD = re.compile(r"\s*(\w+)\s*=\s*([^\s,=]+)\s*")


def options_of(action: Pass) -> dict[str, int | float | bool | str]:
    """The fields of a pass that can be said in text, with their values."""
    found = {
        f.name: getattr(action, f.name) for f in fields(action) if f.metadata.get("said", True)
    }
    return {n: v for n, v in found.items() if isinstance(v, (bool, int, float, str))}


def parse_passes(text: str, known: Mapping[str, Step], default: Pipeline) -> Pipeline:
    """The pipeline of a text. `known` are the passes by name; `default` stands for the word.

    Raises UsageError, which names the passes, or the fields of one and their types.
    """
    steps: list[Step] = []
    for name, said in _items(text):
        if name == DEFAULT and said is None:
            steps += default.steps
        elif name not in known:
            raise UsageError(
                "unknown pass",
                expected=", ".join([DEFAULT, *known]),
                received=name,
                fix="tessel explain --passes help lists them",
            )
        else:
            step = known[name]
            chosen = step.action if said is None else _with_fields(step.action, said)
            steps.append(Step(chosen, step.reason))
    return Pipeline(tuple(steps))


def _items(text: str) -> Iterator[tuple[str, str | None]]:
    """(name, what stands in its braces) of each pass."""
    if not isinstance(text, str) or not text.strip():
        raise UsageError(
            "passes are named in a text", expected="NAME{FIELD=VALUE},NAME,…", received=repr(text)
        )
    at, ended = 0, False
    while not ended:
        match = _ITEM.match(text, at)
        if match is None or match.end() == at:
            raise UsageError(
                "this names no pass", expected="NAME{FIELD=VALUE},NAME,…", received=text[at:]
            )
        yield match[1], match[2]
        at, ended = match.end(), match[3] != ","


def _with_fields(action: Pass, said: str) -> Pass:
    """The pass with other values in its fields."""
    options, given = options_of(action), {}
    for part in filter(str.strip, said.split(",")):
        match = _FIELD.fullmatch(part)
        if match is None or match[1] not in options:
            raise UsageError(
                f"the pass {action.name} has no such field",
                expected=_expected(options),
                received=part.strip(),
            )
        name, value = match[1], _value(match[2], type(options[match[1]]))
        if value is None:
            raise UsageError(
                f"the field {name} of the pass {action.name} takes other values",
                expected=_expected({name: options[name]}),
                received=match[2],
            )
        given[name] = value
    return replace(action, **given)


def _expected(options: Mapping) -> str:
    shown = [f"{n}: {type(v).__name__} = {v}" for n, v in options.items()]
    return ", ".join(shown) or "no fields: leave out the braces"


def _value(text: str, kind: type) -> int | float | bool | str | None:
    """The value of a field of this type; None for what is none."""
    if kind is str:
        return text
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower())
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return kind(value) if kind is float or isinstance(value, int) else None


def listing(known: Mapping[str, Step]) -> str:
    """All passes: their fields with types and defaults, and why they are there."""
    lines = [DEFAULT, "    the passes of the level"]
    for step in known.values():
        shown = options_of(step.action)
        fields = ", ".join(f"{n}: {type(v).__name__} = {v}" for n, v in shown.items())
        lines += [step.action.name + (f"{{{fields}}}" if fields else ""), f"    {step.reason}"]
    return "\n".join(lines)
