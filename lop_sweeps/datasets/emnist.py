"""EMNIST, split `balanced`: handwritten digits and letters (Cohen et al. 2017, arXiv 1702.05373).

The files hold each image transposed, so that letters lie on their side, mirrored. torchvision gives them as they are
stored, and with it UPGD's code, which learns from this split; so do we. To a fully connected network it is no
difference; who looks at the images, or shows them to a network that has seen MNIST, transposes them.
"""

from __future__ import annotations

from lop_sweeps.data.emnist import EMNIST as PUBLISHED
from lop_sweeps.datasets.idx_images import IDXImages


class EMNIST(IDXImages):
    """112,800 training and 18,800 test images (1, 28, 28) of 47 classes, equally many of each. `lop-data fetch emnist`.

    Classes 0 … 9 are the digits, then come the upper-case letters, then the lower-case ones that look different.
    """

    published = PUBLISHED
    classes, training_images = 47, 112_800
    MEAN, STD = (0.1751,), (0.3332,)  # as commonly used with this split; the data were not at hand to compute them
