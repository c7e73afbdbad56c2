"""Size and SHA-256 of every file in a folder, written beside it and compared with it later.

Of objects in a bucket it is the checksum that the store keeps: to compare them takes a listing.
"""

import enum
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from mmdiffusion_jax import files

_KEYS = ({"bytes", "sha256"}, {"bytes", "checksum"})
# Of Google's stores, then of S3's.
_CHECKSUMS = ("md5Hash", "crc32c", "ETag", "etag")


class Verdict(enum.IntEnum):
    """Whether a folder's bytes are those that were sealed."""

    VERIFIED = 0
    UNSEALED = 1
    DAMAGED = 2


def seal(folder: Path, digest_file: Path) -> None:
    """Writes the digests of all files below `folder` to a JSON file, whose folder is made.

    Raises:
        OSError: a file that cannot be read or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder, file = Path(name, "5"), Path(name, "digests", "5.json")
        ...     folder.mkdir()
        ...     _ = (folder / "a").write_bytes(b"whole")
        ...     seal(folder, file)
        ...     before = verify(folder, file)[0].name
        ...     _ = (folder / "a").write_bytes(b"whose")
        ...     before, verify(folder, file)[1]
        ('VERIFIED', 'its file a has other contents than were saved')
    """
    digest_file.parent.mkdir(exist_ok=True)
    files.write_text(digest_file, json.dumps(_digests(folder)))


def verify(folder: Path, digest_file: Path) -> tuple[Verdict, str]:
    """Compares a folder with its digests: the verdict, and the reason where it is not VERIFIED."""
    if not any(_files(folder)):
        return Verdict.DAMAGED, "its folder is empty"
    try:
        recorded = json.loads(digest_file.read_bytes())
    except FileNotFoundError:
        return Verdict.UNSEALED, "it was never sealed, so nothing can verify its bytes"
    except ValueError:
        return Verdict.DAMAGED, f"its digest file {digest_file} is garbled"
    if (
        not isinstance(recorded, dict)
        or not recorded
        or any(
            not isinstance(digest, dict) or digest.keys() not in _KEYS
            for digest in recorded.values()
        )
    ):
        return Verdict.DAMAGED, f"its digest file {digest_file} is garbled"
    present = _digests(folder)
    for name, digest in recorded.items():
        if name not in present and (folder / name).is_file():
            continue  # a listing of a bucket that lags
        if name not in present:
            return Verdict.DAMAGED, f"its file {name} is missing"
        if present[name]["bytes"] != digest["bytes"]:
            sizes = f"{present[name]['bytes']} bytes, not {digest['bytes']}"
            return Verdict.DAMAGED, f"its file {name} has {sizes}"
        if present[name] != digest:
            return Verdict.DAMAGED, f"its file {name} has other contents than were saved"
    return Verdict.VERIFIED, ""


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _digests(folder: Path) -> dict[str, dict[str, int | str]]:
    digests: dict[str, dict[str, int | str]] = {}
    if isinstance(folder, files.BucketPath):
        for item, about in folder.objects().items():
            checksum = next(str(about[key]) for key in _CHECKSUMS if about.get(key))
            name = item.relative_to(folder).as_posix()
            digests[name] = {"bytes": about["size"], "checksum": checksum}
        return digests
    for path in sorted(_files(folder)):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = path.relative_to(folder).as_posix()
        digests[name] = {"bytes": path.stat().st_size, "sha256": digest}
    return digests
