"""``vnet image``: what was compiled for LANs and is kept for later ones."""

from __future__ import annotations

import dataclasses
import os
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vnet.cli.labverbs import AsJson, errors_as_json, print_json
from vnet.cli.output import complain
from vnet.cli.table import print_table, since
from vnet.errors import VnetError

if TYPE_CHECKING:
    from vnet.images import Listed

__all__ = ["add_to"]

# Digits of a key that tell images apart for people.
_SHORT = 12

_STYLES = {"fit": "green", "unfit": "red", "left": "red"}


def _complete(context: typer.Context, args: list[str], incomplete: str) -> list[tuple[str, str]]:
    """The images that begin with ``incomplete``."""
    try:
        from vnet.images.keeping import listed

        found = listed(thorough=False)
        return [(each.key[:_SHORT], each.label) for each in found if each.key.startswith(incomplete)]
    except Exception:
        return []


_IMAGE_HELP = "The first digits of its key, as vnet image ls shows them."


def add_to(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    group = typer.Typer(
        name="image",
        help="Look after images: what was compiled for LANs, kept in files that later LANs map.\n\n"
        "An image that is missing or unfit is compiled anew by the next LAN that needs it, so any of them may be "
        "removed at any time.\n\nExample: vnet image ls",
        short_help="Look after what was compiled for LANs and is kept for later ones.",
        rich_markup_mode=None,
    )
    group.command("ls", short_help="List the images.")(ls)
    group.command("show", short_help="Tell all about an image.")(show)
    group.command("verify", short_help="Check all of each image.")(verify)
    group.command("prune", short_help="Remove images that are unfit, old or too many.")(prune)
    app.add_typer(group)


def ls(as_json: AsJson = False) -> None:
    """List the images, those that were used last first.

    Of each only the header and the length were checked; vnet image verify checks the rest.

    Example: vnet image ls
    """
    with errors_as_json(as_json):
        found = _listed(thorough=False)
    if as_json:
        print_json({"directory": _directory(), "images": [_plain(each) for each in found]})
        return
    if not found:
        complain(f"there are no images in {_directory()}")
        return
    rows = [
        [each.key[:_SHORT], each.state.value, _size(each.bytes), since(each.made), since(each.used), each.label]
        for each in found
    ]
    print_table(["image", "state", "size", "made", "used", "of"], rows, _STYLES)


def show(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help=_IMAGE_HELP, autocompletion=_complete)],
    as_json: AsJson = False,
) -> None:
    """Tell all about an image: what it was compiled from, what is in it, and which processes have it mapped.

    All of it is checked. Processes of other users are not seen.

    Example: vnet image show 4f2a
    """
    with errors_as_json(as_json):
        (found,) = _chosen([image], thorough=True)
    mapped = _mapped_by(found)
    if as_json:
        print_json({**_plain(found), "mapped_by": mapped})
        return
    lines = {
        "of": found.label,
        "state": found.state.value + (f": {found.unfit}" if found.unfit else ""),
        "key": found.key,
        "file": _path(found),
        "size": _size(found.bytes),
        "sections": ", ".join(f"{kind} {_size(size)}" for kind, size in found.sections.items()),
        "made": f"{since(found.made)} ago",
        "used": f"{since(found.used)} ago",
        "mapped by": ", ".join(f"process {pid}" for pid in mapped) or "no process of yours",
    }
    for name, text in lines.items():
        if text:
            print(f"{name:<10} {text}")


def verify(
    image: Annotated[
        list[str] | None,
        typer.Argument(metavar="[IMAGE]...", help=_IMAGE_HELP + " All without one.", autocompletion=_complete),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check all of each image: that it is whole, of this vnet and this machine, and of what its name says.

    Exit codes: 0 all are fit, 1 one is not (the next LAN that needs it compiles it anew).

    Example: vnet image verify
    """
    with errors_as_json(as_json):
        found = _chosen(image, thorough=True) if image else _listed(thorough=True)
    found = [each for each in found if each.state.value != "building"]
    unfit = sum(each.state.value != "fit" for each in found)
    if as_json:
        print_json({"directory": _directory(), "unfit": unfit, "images": [_plain(each) for each in found]})
    else:
        for each in found:
            print(f"{each.key[:_SHORT]}  {each.unfit or 'fit'}")
        if not found:
            complain(f"there are no images in {_directory()}")
    raise typer.Exit(1 if unfit else 0)


def prune(
    older_than: Annotated[
        str | None, typer.Option(metavar="TIME", help="Also those that no LAN has mapped for so long: 30d, 12h.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Also those unused for longest, until the rest fits: 100MiB.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; tell what would be removed.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove images that are unfit and what killed builders left; with options, others too.

    LANs that have an image mapped keep it. vnet does this by itself where images take more than 1 GiB.

    Example: vnet image prune --older-than 30d
    """
    older = _time(older_than) if older_than is not None else None
    most = _bytes(max_size) if max_size is not None else None
    with errors_as_json(as_json):
        pruned = _prune(older, most, everything, dry_run)
    freed = sum(each.image.bytes for each in pruned)
    if as_json:
        removed = [{**_plain(each.image), "why": each.why} for each in pruned]
        print_json({"directory": _directory(), "dry_run": dry_run, "removed": removed, "freed": freed})
        return
    for each in pruned:
        print(f"{each.image.key[:_SHORT]}  {each.why}")
    count = f"{len(pruned):,} image{'' if len(pruned) == 1 else 's'}, {_size(freed)}"
    complain(f"{count} {'would be removed' if dry_run else 'removed'}" if pruned else "nothing was to be removed")


def _listed(*, thorough: bool) -> list[Listed]:
    from vnet.images import CacheTrouble
    from vnet.images.keeping import listed

    try:
        return listed(thorough=thorough)
    except (CacheTrouble, OSError) as trouble:
        raise VnetError(_sentence(trouble)) from None


def _prune(older: float | None, most: int | None, everything: bool, dry: bool) -> list[Any]:
    from vnet.images import CacheTrouble
    from vnet.images.keeping import prune as prune_images

    try:
        return list(prune_images(older=older, most=most, everything=everything, dry=dry))
    except (CacheTrouble, OSError) as trouble:
        raise VnetError(_sentence(trouble)) from None


def _chosen(given: list[str], *, thorough: bool) -> list[Listed]:
    """The images that somebody means.

    Raises:
        VnetError: none, or several.
    """
    found = _listed(thorough=False)
    chosen = []
    for start in given:
        fitting = [each for each in found if each.key.startswith(start.lower()) and each.state.value != "building"]
        if len(fitting) > 1:
            raise VnetError(f"{len(fitting)} images begin with {start!r}: give more digits")
        if not fitting or not start:
            raise VnetError(f"no image begins with {start!r}; vnet image ls lists them")
        chosen.append(fitting[0].name)
    if not thorough:
        return [each for each in found if each.name in chosen]
    again = {each.name: each for each in _listed(thorough=True)}
    if any(name not in again for name in chosen):
        raise VnetError("the image was removed just now")
    return [again[name] for name in dict.fromkeys(chosen)]


def _mapped_by(image: Listed) -> list[int]:
    """The processes of this user that have the file mapped."""
    found = []
    path = os.path.realpath(_path(image))
    try:
        inode = str(os.stat(path).st_ino)
    except OSError:
        return []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            with open(f"/proc/{entry.name}/maps", encoding="utf-8", errors="replace") as maps:
                # ADDRESS PERMISSIONS OFFSET DEVICE INODE PATH: proc_pid_maps(5).  Some file systems have another device
                # here than for stat(2).
                if any(line.split(maxsplit=5)[4:] == [inode, path + "\n"] for line in maps):
                    found.append(int(entry.name))
        except OSError:
            # Ended meanwhile, or another user's.
            continue
    return sorted(found)


def _plain(each: Listed) -> dict[str, Any]:
    plain = dataclasses.asdict(each)
    plain["state"] = each.state.value
    plain["unfit"] = each.unfit or None
    plain["file"] = _path(each)
    del plain["name"]
    return plain


def _directory() -> str:
    from vnet.images import cache_directory

    return str(cache_directory() or "")


def _path(each: Listed) -> str:
    return os.path.join(_directory(), each.name)


def _time(text: str) -> float:
    from vnet.lab.units import Dimension, parse

    if days := re.fullmatch(r"(\d{1,5})\s*d", text.strip()):
        return float(days[1]) * 86_400
    try:
        return parse(text, Dimension.DURATION)
    except ValueError:
        raise typer.BadParameter(f"--older-than is a time such as 30d or 12h, not {text!r}") from None


def _bytes(text: str) -> int:
    from vnet.lab.units import Dimension, parse

    try:
        return int(parse(text, Dimension.SIZE))
    except ValueError:
        raise typer.BadParameter(f"--max-size is a size such as 100MiB, not {text!r}") from None


def _size(size: int) -> str:
    if size < 1 << 20:
        return f"{size / 1024:.3g} KiB"
    return f"{size / 2**20:,.1f} MiB"


def _sentence(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{_directory()} cannot be used: {(error.strerror or str(error)).lower()}"
    return str(error)
