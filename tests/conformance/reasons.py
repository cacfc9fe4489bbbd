"""Why cases do not pass, where a message alone would not say it.

Pairs of a pattern of case ids and a reason why their results differ; the first that matches counts.
What no pattern matches, and all that does not run, is listed with its own message.
"""

import re

_DRAWS = "the expected output is one draw of numpy's random generator, with a seed of its own"

_UNROUNDED = (
    "the expected output is of an unrounded size (4 * 0.6 = 2.4) in `length_resized - 1`, where "
    "the standard has the size of the output"
)

REASONS: list[tuple[str, str]] = [
    (r"test_bernoulli", _DRAWS),
    (r"test_training_dropout_(default|zero_ratio|mask)?", _DRAWS),
    (r"test_resize_downsample_scales_(linear|cubic)_align_corners$", _UNROUNDED),
]

LONGEST = 160  # of a message


def reason_of(case_id: str, status: str, message: str) -> str:
    """The reason why a case fails, one line."""
    for pattern, reason in REASONS if status == "wrong" else ():
        if re.search(pattern, case_id):
            return reason
    return first_finding(message)


def first_finding(message: str) -> str:
    """The first finding of an error that lists several, else its first line."""
    lines = message.strip().splitlines() or [""]
    found = [line[4:] for line in lines if line.startswith("  - ")]
    line = re.sub(r"\s+", " ", (found or lines)[0]).strip()
    line = re.sub(r" \(opset \d+\) of [^:]+: ", ": ", line)  # as one for all its dtypes
    return line if len(line) <= LONGEST else line[: LONGEST - 2].rstrip() + " …"
