"""SVHN (Netzer et al. 2011), cropped digits: 73,257 training and 26,032 test images of 32×32 RGB pixels, 10 classes.

Two MATLAB files. The 531,131 further, easier training images of the set are not used.
"""

from __future__ import annotations

from lop_sweeps.data.archive import Archive
from lop_sweeps.data.published import PublishedFile, PublishedSet

ADDRESS = "http://ufldl.stanford.edu/housenumbers/"

# The MD5 sums are those that torchvision pins.
FILES = (
    PublishedFile("train_32x32.mat", 182040794, "md5", "e26dedcc434d2e4c54c9b2d4a06d8373", b"MATLAB 5.0 MAT-file"),
    PublishedFile("test_32x32.mat", 64275384, "md5", "eb5a983be6a315427106f1b164d9cef3", b"MATLAB 5.0 MAT-file"),
)

SVHN = PublishedSet(
    "svhn",
    "SVHN",
    "SVHN",
    FILES,
    tuple(Archive(file.name, str(file.checksum), (f"{ADDRESS}{file.name}",), (file.name,)) for file in FILES),
)
