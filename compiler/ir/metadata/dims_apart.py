"""Dims of one name that a graph takes as sizes of their own (`tessel.compile(…, dims="warn")`).

{"N_b_0": Repeated("N", "a, axis 0", "b, axis 0")}     kept as JSON in the graph's metadata
"""

import json
from collections.abc import Mapping
from typing import NamedTuple

from ...errors import ModelError

KEY = "tessel.dims"


class Repeated(NamedTuple):
    """The name that the model gives a dim, where it stands first, and where this one stands."""

    name: str
    first: str
    where: str

    def differs(self, own: str, sizes: Mapping[str, int]) -> str | None:
        """What to say if the two have different sizes."""
        first, second = sizes.get(self.name), sizes.get(own)
        if first is None or second is None or first == second:
            return None
        return (
            f"the dim {self.name} has two sizes: {first} (input {self.first}) and {second} "
            f"(input {self.where}); the second is taken as a size of its own, {own}"
        )


def written(apart: Mapping[str, Repeated]) -> str:
    """As metadata."""
    return json.dumps(apart)


def dims_apart(metadata: Mapping[str, str]) -> dict[str, Repeated]:
    """What the metadata of a graph say. Raises ModelError if that makes no sense."""
    try:
        found = json.loads(metadata.get(KEY, "{}"))
        return {str(own): Repeated(*map(str, said)) for own, said in found.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ModelError(
            f"the graph's dims of one name make no sense: {type(error).__name__}: {error}",
            where=f"metadata {KEY}",
            received=metadata[KEY],
        ) from error
