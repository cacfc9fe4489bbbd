"""`tessel sign`: say who made a package, so that others can insist on it."""

import click

from ..compiler.errors import UsageError
from ..runtime.package.trust import make_key
from ..runtime.package.trust import sign as sign_package
from .common.tables import console

EPILOG = """\b
Examples:
  tessel sign --new-key release          makes release (secret) and release.pub
  tessel sign model.tsl --key release
  tessel run model.tsl --trust release.pub
"""


@click.command(epilog=EPILOG)
@click.argument("package", required=False, type=click.Path(dir_okay=False))
@click.option("--key", type=click.Path(dir_okay=False), metavar="FILE", help="The secret key.")
@click.option(
    "--new-key",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Make a key: FILE, which is to be kept secret, and FILE.pub.",
)
def sign(package, key, new_key):
    """Sign PACKAGE (.tsl) with a key: its graph, weights and code."""
    out = console()
    if new_key is not None:
        if package is not None or key is not None:
            raise UsageError("--new-key makes a key and nothing else")
        out.print(f"wrote {new_key} and {new_key}.pub: public key {make_key(new_key)}")
        return
    if package is None or key is None:
        raise UsageError("signing takes a package and a key", fix="tessel sign PKG --key FILE")
    out.print(f"signed {package}: public key {sign_package(package, key)}")
