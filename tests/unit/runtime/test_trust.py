"""Signed packages: what is refused where a key is asked for, and what a signature covers."""

import json
import stat

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import PackageError, UsageError
from tessel.compiler.ir.builder import Builder
from tessel.runtime.package import container, trust
from tessel.runtime.package.container import Container, Writer
from tessel.tools import cli

pytest.importorskip("cryptography")
X = np.ones((2, 16), np.float32)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two secret keys; beside each its public one."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        trust.make_key(folder / name)
    return folder


@pytest.fixture(scope="module")
def unsigned(tmp_path_factory):
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.input("x", "f32[N,16]") @ b.constant(rng.standard_normal((16, 16)).astype(np.float32))
    b.output("y", b.relu(x))
    path = tmp_path_factory.mktemp("package") / "m.tsl"
    tessel.compile(b.graph, threads=1).save(path)
    return path.read_bytes()


@pytest.fixture
def package(tmp_path, unsigned):
    path = tmp_path / "m.tsl"
    path.write_bytes(unsigned)
    return path


@pytest.fixture
def signed(package, keys):
    trust.sign(package, keys / "ours")
    return package


def rewrite(path, **sections):
    """The package with other sections, and hashes that are right again."""
    package = Container(path)
    data = {n: bytes(package.section(n)) for n in package.table} | sections
    with Writer(path) as out:
        for name, d in data.items():
            out.add(name, [d])


# -- what loads -------------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
def test_a_signed_package_runs_with_and_without_being_asked(signed, keys, native):
    ours, theirs = keys / "ours.pub", keys / "theirs.pub"
    results = [
        tessel.load(signed, native=native, threads=1, trust=t)(X)
        for t in (None, ours, [theirs, ours])
    ]
    assert all(np.array_equal(y, results[0]) for y in results)


def test_keys_may_be_hex_or_bytes_or_files(signed, keys):
    (public,) = trust.public_keys(keys / "ours.pub")
    for key in (public, public.upper(), bytes.fromhex(public), str(keys / "ours.pub")):
        assert trust.public_keys(key) == [public]
        tessel.load(signed, trust=key)


def test_signing_again_replaces_the_signature(signed, keys):
    trust.sign(signed, keys / "theirs")
    tessel.load(signed, trust=keys / "theirs.pub")
    with pytest.raises(PackageError, match="not trusted"):
        tessel.load(signed, trust=keys / "ours.pub")


# -- what does not ----------------------------------------------------------------------------


def test_an_unsigned_package(package, keys):
    with pytest.raises(PackageError, match="not signed") as caught:
        tessel.load(package, trust=keys / "ours.pub")
    assert trust.public_keys(keys / "ours.pub")[0] in caught.value.expected


def test_another_key_and_none_at_all(signed, keys):
    for keys_ in (keys / "theirs.pub", []):
        with pytest.raises(PackageError, match="not trusted"):
            tessel.load(signed, trust=keys_)


def test_a_name_that_another_key_signed_under(signed, keys):
    """Their signature with our key's name on it."""
    trust.sign(signed, keys / "theirs")
    made = json.loads(bytes(Container(signed).section("signature")))
    made["key"] = trust.public_keys(keys / "ours.pub")[0]
    rewrite(signed, signature=json.dumps(made).encode())
    with pytest.raises(PackageError, match="signature is wrong"):
        tessel.load(signed, trust=keys / "ours.pub")


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("section", ["manifest", "graph", "weights", "packed", "code"])
def test_a_signature_covers_every_section(signed, keys, section, native):
    data = bytearray(bytes(Container(signed).section(section)))
    data[-1] ^= 1
    rewrite(signed, **{section: bytes(data)})
    with pytest.raises(PackageError, match="signature is wrong"):
        tessel.load(signed, native=native, trust=keys / "ours.pub")


def test_a_section_that_was_added_is_not_signed(signed, keys):
    rewrite(signed, more=b"1")
    with pytest.raises(PackageError, match="signature is wrong"):
        tessel.load(signed, trust=keys / "ours.pub")


@pytest.mark.parametrize("section", ["weights", "packed"])
def test_large_sections_are_looked_at_before_anything_runs(signed, keys, section, monkeypatch):
    """Also those that `load` would leave to the first run."""
    entry = Container(signed).table[section]
    data = bytearray(signed.read_bytes())
    data[entry["offset"] + entry["size"] - 1] ^= 1
    signed.write_bytes(data)
    monkeypatch.setattr(container, "LARGE", 500)
    with pytest.raises(PackageError, match=f"damaged: section {section}"):
        tessel.load(signed, trust=keys / "ours.pub")


@pytest.mark.parametrize(
    "made",
    [
        b"",
        b"null",
        b"{}",
        b"[" * 1000,
        b'{"key": "00", "signature": "00"}',
        b'{"key": 1}',
        b'{"key": "zz", "signature": "zz"}',
        b"\xff",
    ],
)
def test_signatures_that_are_none(signed, keys, made):
    rewrite(signed, signature=made)
    with pytest.raises(PackageError, match="signature"):
        tessel.load(signed, trust=keys / "ours.pub")


def test_a_table_that_names_a_section_twice(package):
    class Twice(Writer):
        def add(self, name, pieces):
            super().add(name if name != "more" else "graph", pieces)

    old = Container(package)
    sections = {n: bytes(old.section(n)) for n in old.table}
    with Twice(package) as out:
        for name, data in (sections | {"more": sections["graph"]}).items():
            out.add(name, [data])
    with pytest.raises(PackageError, match="twice"):
        tessel.load(package)


# -- keys -------------------------------------------------------------------------------------


def test_a_secret_key_is_its_owner_s_alone_and_never_overwritten(tmp_path):
    trust.make_key(tmp_path / "k")
    before = (tmp_path / "k").read_bytes()
    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    with pytest.raises(UsageError, match="there already"):
        trust.make_key(tmp_path / "k")
    assert (tmp_path / "k").read_bytes() == before


@pytest.mark.parametrize(
    "data", [b"", b"-----BEGIN PUBLIC KEY-----\n", b"\0" * 100, b"x" * 100_000]
)
def test_files_that_are_no_keys(package, tmp_path, data):
    (tmp_path / "key").write_bytes(data)
    for use in (lambda k: trust.sign(package, k), lambda k: tessel.load(package, trust=k)):
        with pytest.raises(UsageError, match=r"no (private|public) key"):
            use(tmp_path / "key")


def test_keys_of_another_kind(package, tmp_path, keys):
    with pytest.raises(UsageError, match="no private key"):
        trust.sign(package, keys / "ours.pub")
    with pytest.raises(UsageError, match="no public key"):
        tessel.load(package, trust=keys / "ours")
    with pytest.raises(UsageError, match="no public key"):
        tessel.load(package, trust=[7])


def test_where_the_library_is_not_installed(package, keys, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(UsageError, match="cryptography") as caught:
        tessel.load(package, trust=keys / "ours.pub")
    assert "tessel[sign]" in caught.value.fix


# -- on the command line ----------------------------------------------------------------------


def test_the_command_line(package, tmp_path, capsys):
    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return end.value.code, out + err

    key = tmp_path / "release"
    assert call("sign", "--new-key", key)[0] == 0
    assert call("run", package)[0] == 0
    code, said = call("run", package, "--trust", f"{key}.pub")
    assert code == 2 and "not signed" in said
    assert "not signed" in call("inspect", package)[1]
    assert call("sign", package, "--key", key)[0] == 0
    assert call("run", package, "--trust", f"{key}.pub")[0] == 0
    code, said = call("inspect", package, "--trust", f"{key}.pub")
    assert code == 0 and "signed with" in said
    assert call("sign", package)[0] == 2 and call("sign", "--key", key, "--new-key", key)[0] == 2
    code, said = call("run", tmp_path / "m.onnx", "--trust", f"{key}.pub")
    assert code == 2 and "only packages are signed" in said
