"""The IDX format of MNIST: an array of unsigned bytes after a header that says its shape."""

from __future__ import annotations

import math

from lop_sweeps.data.published import PublishedFile


def idx_header(shape: tuple[int, ...]) -> bytes:
    """What an IDX file of unsigned bytes begins with: two zeros, the type code 8, the number of dimensions,
    then each dimension as a big-endian 32-bit integer. The values follow.
    """
    return bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)


def idx_file(name: str, shape: tuple[int, ...], sha256: str | None) -> PublishedFile:
    """One array of unsigned bytes; the checksum is that of the decompressed file, None where it is not known."""
    header = idx_header(shape)
    return PublishedFile(name, len(header) + math.prod(shape), "sha256", sha256, header)
