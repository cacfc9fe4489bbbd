"""Rewrites of arithmetic and movement: (equation, inputs, lines before, lines after)."""


def graph(inputs: str, body: str) -> str:
    """`x: f32[3]; …` and lines that define %y."""
    values = ", ".join(f"%{i.strip()}" for i in inputs.split(";"))
    return f"graph g({values}) -> (%y) {{\n{body}\n}}"


def number(name: str, value, type: str = "f32[]") -> str:
    return f"%{name} = constant() {{value=dense({type} {value})}}\n"


ZERO, ONE, TWO, HALF = (number("c", v) for v in ("0.0", "1.0", "2.0", "0.5"))
X, XY = "x: f32[2,3]", "x: f32[2,3]; z: f32[2,3]"
MASK = "%c = constant() {value=dense(bool[] true)}\n"

# equation, inputs, before, after ("" where %y is %x)
ALGEBRA = [
    ("x + 0 => x", X, ZERO + "%y = add(%c, %x)", ""),
    ("x - 0 => x", X, ZERO + "%y = sub(%x, %c)", ""),
    ("x * 1 => x", X, ONE + "%y = mul(%x, %c)", ""),
    ("x / 1 => x", X, ONE + "%y = div(%x, %c)", ""),
    ("x - x => 0 for ints", "x: i64[2]", "%y = sub(%x, %x)", number("y", "[0, 0]", "i64[2]")),
    ("pow(x, 1) => x", X, ONE + "%y = pow(%x, %c)", ""),
    ("pow(x, 2) => x * x", X, TWO + "%y = pow(%x, %c)", "%y = mul(%x, %x)"),
    (
        "pow(x, 3) => x * x * x",
        X,
        number("c", 3.0) + "%y = pow(%x, %c)",
        "%a = mul(%x, %x)\n%y = mul(%a, %x)",
    ),
    ("pow(x, -1) => 1 / x", X, number("c", -1.0) + "%y = pow(%x, %c)", "%y = reciprocal(%x)"),
    (
        "pow(x, 1/2) => sqrt(x)",
        X,
        "%a = exp(%x)\n" + HALF + "%y = pow(%a, %c)",
        "%a = exp(%x)\n%y = sqrt(%a)",
    ),
    (
        "x / 2ⁿ => x * 2⁻ⁿ",
        X,
        number("c", 4.0) + "%y = div(%x, %c)",
        number("c", 0.25) + "%y = mul(%x, %c)",
    ),
    ("1 / x => reciprocal(x)", X, ONE + "%y = div(%c, %x)", "%y = reciprocal(%x)"),
    ("-(-x) => x", X, "%a = neg(%x)\n%y = neg(%a)", ""),
    ("x + -y => x - y", XY, "%a = neg(%z)\n%y = add(%a, %x)", "%y = sub(%x, %z)"),
    ("x - -y => x + y", XY, "%a = neg(%z)\n%y = sub(%x, %a)", "%y = add(%x, %z)"),
    ("not(not(x)) => x", "x: bool[2]", "%a = not(%x)\n%y = not(%a)", ""),
    (
        "cast(cast(x, a), b) => cast(x, b) where a holds all of x",
        "x: f16[2]",
        "%a = cast(%x) {dtype=f32}\n%y = cast(%a) {dtype=f64}",
        "%y = cast(%x) {dtype=f64}",
    ),
    ("where(constant, x, y) => x or y", XY, MASK + "%y = where(%c, %x, %z)", ""),
    (
        "where(not(z), x, y) => where(z, y, x)",
        "x: f32[2]; b: bool[2]",
        "%n = not(%b)\n%a = neg(%x)\n%y = where(%n, %x, %a)",
        "%a = neg(%x)\n%y = where(%b, %a, %x)",
    ),
    ("relu(relu(x)) => relu(x)", X, "%a = relu(%x)\n%y = relu(%a)", "%y = relu(%x)"),
    ("maximum(x, 0) => relu(x)", X, ZERO + "%y = maximum(%x, %c)", "%y = relu(%x)"),
    (
        "x / c => x * (1/c)",
        X,
        number("c", 5.0) + "%y = div(%x, %c)",
        number("c", 0.2) + "%y = mul(%x, %c)",
    ),
    ("x - c => x + -c", X, TWO + "%y = sub(%x, %c)", number("c", -2.0) + "%y = add(%x, %c)"),
    (
        "(x + c) + d => x + (c + d)",
        X,
        ONE + number("d", 2.0) + "%a = add(%x, %c)\n%y = add(%a, %d)",
        number("c", 3.0) + "%y = add(%x, %c)",
    ),
    (
        "(x * c) * d => x * (c * d)",
        X,
        number("c", 3.0) + number("d", 2.0) + "%a = mul(%x, %c)\n%y = mul(%a, %d)",
        number("c", 6.0) + "%y = mul(%x, %c)",
    ),
    (
        "-x * c => x * -c",
        X,
        TWO + "%a = neg(%x)\n%y = mul(%a, %c)",
        number("c", -2.0) + "%y = mul(%x, %c)",
    ),
    (
        "1 / sqrt(x) => rsqrt(x)",
        X,
        "%e = exp(%x)\n%a = sqrt(%e)\n%y = reciprocal(%a)",
        "%e = exp(%x)\n%y = rsqrt(%e)",
    ),
]

CUT = "{{axes=[1], starts=[{}], steps=[{}], sizes=[{}]}}"
MOVES = [
    ("transpose(x) where no axis moves => x", X, "%y = transpose(%x) {perm=[0, 1]}", ""),
    (
        "transpose(transpose(x, p), q) => transpose(x, p∘q)",
        "x: f32[2,3,4]",
        "%a = transpose(%x) {perm=[1, 2, 0]}\n%y = transpose(%a) {perm=[0, 2, 1]}",
        "%y = transpose(%x) {perm=[1, 0, 2]}",
    ),
    (
        "transpose(x) where only axes of size 1 move => reshape(x)",
        "x: f32[2,1,4]",
        "%y = transpose(%x) {perm=[1, 0, 2]}",
        "%y = reshape(%x) {shape=[1, 2, 4]}",
    ),
    (
        "reshape(transpose(reshape(x, [A*B,S,T])), [A,B,T,S]) => transpose(x, [0,1,3,2])",
        "x: f32[N,2,3,4]",
        "%a = reshape(%x) {shape=[2*N,3,4]}\n%b = transpose(%a) {perm=[0, 2, 1]}\n"
        "%y = reshape(%b) {shape=[N,2,4,3]}",
        "%y = transpose(%x) {perm=[0, 1, 3, 2]}",
    ),
    (
        "reshape(transpose(x)) without axes of size 1 => transpose(reshape(x))",
        "x: f32[N,1,4,8]",
        "%a = transpose(%x) {perm=[0, 3, 1, 2]}\n%y = reshape(%a) {shape=[N,8,4]}",
        "%a = reshape(%x) {shape=[N,4,8]}\n%y = transpose(%a) {perm=[0, 2, 1]}",
    ),
    ("reshape(x) to its own shape => x", "x: f32[N,3]", "%y = reshape(%x) {shape=[N,3]}", ""),
    ("expand(x) to its own shape => x", "x: f32[N,3]", "%y = expand(%x) {shape=[N,3]}", ""),
    (
        "reshape(reshape(x)) => reshape(x)",
        X,
        "%a = reshape(%x) {shape=[6]}\n%y = reshape(%a) {shape=[3,2]}",
        "%y = reshape(%x) {shape=[3,2]}",
    ),
    (
        "expand(expand(x)) => expand(x)",
        "x: f32[1,3]",
        "%a = expand(%x) {shape=[2,3]}\n%y = expand(%a) {shape=[4,2,3]}",
        "%y = expand(%x) {shape=[4,2,3]}",
    ),
    ("slice(x) of all of x => x", X, f"%y = slice(%x) {CUT.format(0, 1, 3)}", ""),
    (
        "slice(slice(x)) => slice(x)",
        "x: f32[2,9]",
        f"%a = slice(%x) {CUT.format(8, -2, 4)}\n%y = slice(%a) {CUT.format(1, 1, 2)}",
        f"%y = slice(%x) {CUT.format(6, -2, 2)}",
    ),
    ("concat(x) => x", X, "%y = concat(%x) {axis=0}", ""),
    (
        "concat(x[a:b], x[b:c]) => x[a:c]",
        "x: f32[2,9]",
        f"%a = slice(%x) {CUT.format(1, 1, 3)}\n"
        f"%b = slice(%x) {CUT.format(4, 1, 2)}\n%y = concat(%a, %b) {{axis=1}}",
        f"%y = slice(%x) {CUT.format(1, 1, 5)}",
    ),
    (
        "concat(concat(x, y), z) => concat(x, y, z)",
        XY,
        "%a = concat(%x, %z) {axis=0}\n%y = concat(%z, %a) {axis=-2}",
        "%y = concat(%z, %x, %z) {axis=-2}",
    ),
    ("pad(x) by nothing => x", X, "%y = pad(%x) {pads=[0, 0, 0, 0]}", ""),
]
