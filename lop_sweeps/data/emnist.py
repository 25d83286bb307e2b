"""EMNIST (Cohen, Afshar, Tapson and van Schaik 2017), split `balanced`: digits and letters of 47 classes.

112,800 training and 18,800 test images of 28×28 grey pixels, 2,400 and 400 of each class: upper-case and lower-case
letters that look alike are one class. One archive of half a gigabyte holds all six splits; only this one is unpacked.
"""

from __future__ import annotations

from lop_sweeps.data.archive import Archive
from lop_sweeps.data.idx import idx_file
from lop_sweeps.data.published import PublishedSet

# Published is the checksum of the archive only.
FILES = (
    idx_file("emnist-balanced-train-images-idx3-ubyte", (112800, 28, 28), None),
    idx_file("emnist-balanced-train-labels-idx1-ubyte", (112800,), None),
    idx_file("emnist-balanced-test-images-idx3-ubyte", (18800, 28, 28), None),
    idx_file("emnist-balanced-test-labels-idx1-ubyte", (18800,), None),
)

EMNIST = PublishedSet(
    "emnist",
    "EMNIST",
    "EMNIST/raw",
    FILES,
    (
        Archive(
            "gzip.zip",
            "58c8d27c78d21e728a6bc7b3cc06412e",
            ("https://biometrics.nist.gov/cs_links/EMNIST/gzip.zip",),
            tuple(file.name for file in FILES),
            inside="gzip/",
        ),
    ),
)
