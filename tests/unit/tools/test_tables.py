"""What commands print: durations in the unit that suits them, tables that fit the terminal."""

import pytest
from tessel.tools.common.tables import (
    Column,
    console,
    duration,
    operations,
    print_list,
    print_table,
    short,
    three_digits,
)

COLUMNS = (
    Column("time", "of one run"),
    Column("calls", "in one run", rank=1),
    Column("kernel", "what it is", right=False, words=(("gemm", "a product"), ("sort", "order"))),
    Column("nodes", "of the model", right=False),
)
ROWS = [["12 µs", "1", "gemm+relu", ("/a/MatMul", "/a/Relu")], ["3 µs", "22", "tanh", ("/b",)]]


@pytest.fixture
def printed(capsys, monkeypatch):
    """What is printed at a width, as lines without the spaces at their ends."""

    def printed(width, show, *arguments):
        monkeypatch.setenv("COLUMNS", str(width))
        show(console(), *arguments)
        lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert all(len(line) <= width for line in lines)
        return lines

    return printed


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 µs"),
        (0.00025, "0.250 µs"),
        (0.00123, "1.23 µs"),
        (0.0456, "45.6 µs"),
        (0.999, "999 µs"),
        (0.99951, "1.00 ms"),
        (1, "1.00 ms"),
        (12.34, "12.3 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (75_000, "75.0 s"),
        (-0.0123, "-12.3 µs"),
    ],
)
def test_durations_are_in_microseconds_below_one_millisecond(ms, text):
    assert duration(ms) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "0.500"), (9.996, "10.0"), (99.96, "100"), (12345, "12345")]
)
def test_three_digits(value, text):
    assert three_digits(value) == text


@pytest.mark.parametrize(
    ("flops", "text"),
    [(0, "0 FLOP"), (512, "512 FLOP"), (24_600_000, "24.6 MFLOP"), (3e12, "3000 GFLOP")],
)
def test_operations(flops, text):
    assert operations(flops) == text


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (40, "/a/Conv + /b/Add + /c/Mul + /d/Relu"),
        (34, "/a/Conv + … 2 more … + /d/Relu"),
        (20, "/a/Conv + 3 more"),
    ],
)
def test_names_of_nodes_are_left_out_whole(limit, text):
    assert short(("/a/Conv", "/b/Add", "/c/Mul", "/d/Relu"), limit) == text


def test_a_long_name_keeps_its_end():
    assert short(["/model/encoder/layer.0/attention/MatMul"], 20) == "….0/attention/MatMul"
    assert short([], 20) == ""


def test_a_table_has_a_legend_of_what_it_shows(printed):
    assert printed(80, print_table, COLUMNS, ROWS) == [
        " time  calls  kernel     nodes",
        "12 µs      1  gemm+relu  /a/MatMul + /a/Relu",
        " 3 µs     22  tanh       /b",
        "  time    of one run",
        "  calls   in one run",
        "  kernel  what it is",
        "    gemm  a product",
        "  nodes   of the model",
    ]


def test_a_narrow_table_leaves_out_columns_and_says_so(printed):
    lines = printed(43, print_table, COLUMNS, ROWS)
    assert lines[0].split() == ["time", "kernel", "nodes"]
    assert not any("in one run" in line for line in lines)
    assert lines[-1].split() == ["(left", "out)", "calls:", "no", "room"]


def test_an_empty_column_is_left_out(printed):
    rows = [["1 µs", "", "tanh", ("/b",)]]
    lines = printed(80, print_table, COLUMNS, rows)
    assert lines[0].split() == ["time", "kernel", "nodes"]
    assert not any("calls" in line for line in lines)


def test_long_texts_of_a_list_are_indented(printed):
    lines = printed(30, print_list, [(12, "a reason that is longer than the line")])
    assert lines == ["   12 ×  a reason that is", "         longer than the line"]
