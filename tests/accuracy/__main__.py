"""What compression costs trained models: `python -m tests.accuracy resnet20 --images 2000`.

The models and their data are read from `$TESSEL_DATA` or `../shared/data`. A line per recipe: its
accuracy or perplexity, beside that of floats.
"""

import argparse
from pathlib import Path

from .classifiers import kws, mnist, resnet20, resnet20_qat
from .language import minilm, stories260k, stories260k_qat

TASKS = {
    "resnet20": resnet20,
    "kws": kws,
    "mnist": mnist,
    "minilm": minilm,
    "stories260K": stories260k,
}
TRAINING = {"resnet20-qat": resnet20_qat, "stories260K-qat": stories260k_qat}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy", description=__doc__)
    parser.add_argument("task", choices=[*TASKS, *TRAINING])
    parser.add_argument("--images", type=int, default=2000, help="to measure with")
    parser.add_argument(
        "--only", default="", help="lines with this in their name; weights of stories260K-qat: i3"
    )
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--state", type=Path, help="where training is kept, to go on from there")
    given = parser.parse_args()
    if given.task in TASKS:
        TASKS[given.task](given.images, given.only)
    else:
        TRAINING[given.task](given.images, given.only, given.steps, given.state)
