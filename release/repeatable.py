"""Takes out of what tools have made whatever is of the day and the machine, and writes the checksums.

usage: python release/repeatable.py FOLDER SECONDS, with the time of the commit since 1970

helm writes the time of day to every entry of a chart's archive, and uv that and a random number to
every bill of materials.
"""

import gzip
import hashlib
import io
import json
import sys
import tarfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

SUMS: Final = "SHA256SUMS"


def repack(archive: bytes, seconds: int) -> bytes:
    """The same files in a gzipped tar: in the order of their names, of one time, and of nobody."""
    written = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as old,
        gzip.GzipFile(fileobj=written, mode="wb", filename="", mtime=seconds) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for entry in sorted(old.getmembers(), key=lambda entry: entry.name):
            kept = tarfile.TarInfo(entry.name)
            kept.size, kept.mtime, kept.mode = entry.size, seconds, 0o644
            new.addfile(kept, old.extractfile(entry))
    return written.getvalue()


def settle(bill: bytes, seconds: int) -> bytes:
    """A bill of materials of the commit's time, with a serial number that follows from its content."""
    found = json.loads(bill)
    found["metadata"]["timestamp"] = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    del found["serialNumber"]
    content = hashlib.sha256(_json(found)).hexdigest()
    return _json({"serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, content).urn} | found)


def sums(folder: Path) -> str:
    """As `sha256sum --check` reads them."""
    files = sorted(path for path in folder.iterdir() if path.name != SUMS)
    return "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files)


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def main(folder: Path, seconds: int) -> None:
    for path in folder.glob("*.tgz"):
        path.write_bytes(repack(path.read_bytes(), seconds))
    for path in folder.glob("*.cdx.json"):
        path.write_bytes(settle(path.read_bytes(), seconds))
    (folder / SUMS).write_text(sums(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
