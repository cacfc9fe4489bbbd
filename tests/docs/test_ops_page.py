"""docs/reference/ops.md is what the records say now, and the parts that it is made of."""

import pytest
from tessel.compiler.ir.op import OPS
from tessel.frontends.onnx.operators.table import TABLE
from tessel.tools.pages.onnx_ops import ops_of, readers
from tessel.tools.pages.ops import entry, page, plain


@pytest.mark.slow
def test_the_page_is_of_these_records(root):
    if (root / "docs" / "reference" / "ops.md").read_text() != page():
        pytest.fail("docs/reference/ops.md is out of date; to rewrite it: make docs")


def test_an_entry():
    text = entry(OPS["softmax"], ["Softmax"])
    assert "`softmax(x: T) -> T`, T: float" in text
    assert "- `axis`: int = `-1`" in text
    assert "- gradient\n" in text
    assert "- expands to other ops; GPU" in text
    assert text.endswith("- ONNX: Softmax\n")


@pytest.mark.parametrize(
    ("op", "line"),
    [
        ("arg_max", "- zero gradient: "),
        ("zip_map", "- no gradient: "),
        ("attention", "- gradient of its expansion"),
        ("zip_map", "- a host callback (Python): strings and maps"),
        ("reshape", "- the same bytes under another shape"),
        ("pow", "T: numeric"),
        ("reshape", "- `shape`: dims, required"),
    ],
)
def test_what_an_entry_says(op, line):
    assert line in entry(OPS[op], [])


@pytest.mark.parametrize(
    ("name", "ops"),
    [
        ("Relu", {"relu"}),  # named in the table
        ("Mean", {"add", "div"}),  # in a function that the entry calls, and in itself
        ("BitShift", {"shift_left", "shift_right"}),  # one of two
        ("Cast", {"cast"}),  # by a tensor's method; nothing else
        ("Transpose", {"transpose"}),
        ("Where", {"where"}),
    ],
)
def test_what_a_reader_s_entry_makes(name, ops):
    assert ops_of(TABLE["", name]) == ops


def test_other_domains_are_named():
    assert "ai.onnx.ml:ZipMap" in readers()["zip_map"]


def test_marks_are_plain_outside_of_code():
    assert plain("a_b * `c_d`") == "a\\_b \\* `c_d`"
