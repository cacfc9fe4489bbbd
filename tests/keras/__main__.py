"""Run Keras' own tests, which its wheel carries, on tessel, and print the counts.

python -m tests.keras                                 # optimizers, losses, metrics, layers, …
python -m tests.keras layers/rnn losses -k dropout    # some of them, with pytest's options
python -m tests.keras ops/numpy_test.py --traced      # functions of arrays traced, too
"""

import importlib.util
import sys
import tempfile
from pathlib import Path

import pytest

WHOLE = ("optimizers", "losses", "metrics", "layers", "trainers", "ops")


def main(arguments: list[str]) -> int:
    (folder,) = importlib.util.find_spec("keras").submodule_search_locations
    source = Path(folder) / "src"
    named = [a for a in arguments if (source / a).exists()]
    options = [a for a in arguments if a not in named]
    with tempfile.TemporaryDirectory() as root:  # no settings of this repository
        return pytest.main(
            [
                *("-q", "-p", "tests.keras.plugin", "-p", "no:cacheprovider", "-W", "ignore"),
                *("--rootdir", root, "-c", "/dev/null", "--tb=line", *options),
                *(str(source / name) for name in named or WHOLE),
            ]
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
