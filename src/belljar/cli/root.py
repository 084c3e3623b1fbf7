"""`belljar root`."""

import click

from belljar.cli.talk import format_option, progress, show
from belljar.home import Home
from belljar.verify import Root


@click.group(no_args_is_help=True)
def command() -> None:
    """Keep the root filesystems that `belljar verify` runs things on.

    \b
    Examples:
      belljar root add glibc-2.17
      belljar root add debian:bullseye centos=./centos7.tar.xz
      belljar root list
    """


@command.command("add")
@click.argument("specs", metavar="NAME...", nargs=-1, required=True)
@format_option
def add(specs: tuple[str, ...], form: str) -> None:
    """Add root filesystems; one that is there already is left as it is.

    NAME is `glibc-2.17` (a real glibc 2.17 system, through npm), `debian:SUITE` (from the configured
    mirror, through apt), `musl` (musl and busybox, likewise), `empty` (nothing at all), or NAME=PATH for
    a directory (used where it lies) or a tar archive of yours.

    \b
    Examples:
      belljar root add glibc-2.17 debian:bullseye musl empty
      belljar root add mine=/srv/roots/rocky8
    """
    from belljar.verify import roots

    with progress() as shown:
        found = [roots.add(spec, Home.from_environment(), progress=shown) for spec in specs]
    lines = [f"{root.name}: {root.libc}, {root.arch}, at {root.path}" for root in found]
    value = [_json(root) for root in found]
    show(form, lines, {"roots": value})


@command.command("list")
@format_option
def listing(form: str) -> None:
    """List the roots that are there.

    \b
    Examples:
      belljar root list
    """
    from belljar.verify import roots

    found = roots.listing(Home.from_environment())
    lines = [f"{root.name:<20} {root.libc:<14} {root.arch:<8} {root.path}" for root in found]
    value = [_json(root) for root in found]
    show(form, lines or ["no roots; `belljar root add glibc-2.17` adds one"], {"roots": value})


@command.command("remove")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def remove(names: tuple[str, ...]) -> None:
    """Remove roots; a directory of yours that a root refers to stays.

    \b
    Examples:
      belljar root remove debian:bullseye
    """
    from belljar.verify import roots

    for name in names:
        roots.remove(name, Home.from_environment())
        click.echo(f"removed {name}")


def _json(root: Root) -> dict[str, str]:
    return {
        "name": root.name,
        "libc": root.libc,
        "arch": root.arch,
        "path": str(root.path),
        "origin": root.origin,
    }
