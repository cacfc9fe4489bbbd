"""Who made a package: Ed25519 signatures over the hashes of all of its sections.

    make_key("release")                             # release: keep it secret; release.pub: publish
    sign("model.tsl", "release")
    tessel.load("model.tsl", trust="release.pub")   # raises if it is not what was signed

A package's machine code is run with all rights of the process, so loading one is trusting whoever
made it. A signature says who that was; it covers graph, weights, code and manifest, since it is
over the names, sizes and SHA-256s of all sections, and `load` with `trust` reads all of them.

What is signed is `MESSAGE` and the JSON list of [name, size, hash] of the sections, sorted, but for
the section "signature" itself: {"key": the public key, "signature": …}, both in hex.
"""

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from ...compiler.errors import PackageError, UsageError
from ...compiler.system.files import reading, replacing, shown, size_of
from ...compiler.system.nesting import read_json
from .container import Container, Writer

SECTION, MESSAGE = "signature", b"tessel package signature 1\n"
LARGEST_KEY = 1 << 16  # bytes of a file with a key
Key = str | bytes | os.PathLike


def _ed25519() -> Any:
    """The library's modules. Raises UsageError where it is not installed."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise UsageError(
            "signatures need the package cryptography", fix="pip install 'tessel[sign]'"
        ) from None
    return ed25519, serialization


def make_key(path: str | os.PathLike) -> str:
    """A new key: `path` (PEM, for its owner to read alone) and `path`.pub. The public key in hex.

    Raises UsageError if one of the files is there already.
    """
    ed25519, serialization = _ed25519()
    public = os.fspath(path) + ".pub"
    for file in (path, public):
        if os.path.lexists(file):
            raise UsageError("this file is there already", where=shown(file))
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with replacing(path, UsageError, mode=0o600) as out:
        out.write(private)
    with replacing(public, UsageError) as out:
        out.write(
            key.public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            )
        )
    return key.public_key().public_bytes_raw().hex()


def sign(path: str | os.PathLike, key: str | os.PathLike) -> str:
    """Sign a package with a private key (a PEM file), in place of a signature that is there. The
    public key in hex. Raises PackageError for damaged packages, UsageError for what is no key."""
    private = _private(key)
    package = Container(path)
    package.check()
    public = private.public_key().public_bytes_raw().hex()
    made = {"key": public, "signature": private.sign(_message(package)).hex()}
    with Writer(path) as out:
        for name in package.table:
            if name != SECTION:
                out.add(name, [package.section(name)])
        out.add(SECTION, [json.dumps(made).encode()])
    return public


def _message(package: Container) -> bytes:
    entries = sorted([n, e["size"], e["hash"]] for n, e in package.table.items() if n != SECTION)
    return MESSAGE + json.dumps(entries).encode()


def signer(package: Container) -> str | None:
    """The public key that a package says it is signed with, in hex; None if it is not signed.
    Whether that is true is for `verify` to say."""
    return None if SECTION not in package.table else _signature(package)[0]


def _signature(package: Container) -> tuple[str, bytes]:
    data = bytes(package.section(SECTION))
    made = read_json(data, "the package's signature", PackageError, package.where)
    try:
        key, signature = made["key"], bytes.fromhex(made["signature"])
        if len(bytes.fromhex(key)) != 32:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        package.refuse("the package's signature does not make sense")
    return key, signature


def verify(package: Container, trust: Key | Iterable[Key]) -> None:
    """Raise PackageError unless a package is whole and signed with one of the public keys."""
    ed25519, _ = _ed25519()
    from cryptography.exceptions import InvalidSignature

    keys = public_keys(trust)
    fix = "get it from who signs it, or leave out trust if you trust whoever made this file"
    if SECTION not in package.table:
        package.refuse("the package is not signed", expected=_shown(keys), fix=fix)
    key, signature = _signature(package)
    if key not in keys:
        package.refuse(
            "the package is signed with a key that is not trusted",
            expected=_shown(keys),
            received=key,
            fix=fix,
        )
    try:
        public = ed25519.Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        public.verify(signature, _message(package))
    except InvalidSignature:
        package.refuse("the package is not what was signed: its signature is wrong", fix=fix)
    package.check()


def _shown(keys: Iterable[str]) -> str:
    return "signed with " + (" or ".join(keys) or "a key of an empty list")


# -- keys -------------------------------------------------------------------------------------


def public_keys(trust: Key | Iterable[Key]) -> list[str]:
    """Public keys in hex, from PEM files, hex digits or 32 bytes; one or several."""
    several = [trust] if isinstance(trust, (str, bytes, os.PathLike)) else list(trust)
    return [_public(key) for key in several]


def _public(key: Key) -> str:
    if isinstance(key, bytes) and len(key) == 32:
        return key.hex()
    if isinstance(key, str) and len(key) == 64 and set(key.lower()) <= set("0123456789abcdef"):
        return key.lower()
    if not isinstance(key, (str, os.PathLike)):
        raise UsageError("this is no public key", expected="a .pub file, 64 hex digits or 32 bytes")
    ed25519, serialization = _ed25519()
    found = _loaded(key, serialization.load_pem_public_key, "public")
    if not isinstance(found, ed25519.Ed25519PublicKey):
        raise UsageError("this is no public key of Ed25519", where=shown(key))
    return found.public_bytes_raw().hex()


def _private(key: str | os.PathLike) -> Any:
    ed25519, serialization = _ed25519()
    found = _loaded(key, lambda data: serialization.load_pem_private_key(data, None), "private")
    if not isinstance(found, ed25519.Ed25519PrivateKey):
        raise UsageError("this is no private key of Ed25519", where=shown(key))
    return found


def _loaded(path: str | os.PathLike, load: Callable[[bytes], Any], kind: str) -> Any:
    with reading(path, UsageError) as file:
        if size_of(file) > LARGEST_KEY:
            raise UsageError(f"this is no {kind} key", where=shown(path))
        data = file.read(LARGEST_KEY)
    try:
        return load(data)
    except Exception as error:  # the library has kinds of its own for damage, passwords, versions
        raise UsageError(f"this is no {kind} key in PEM: {error}", where=shown(path)) from None
