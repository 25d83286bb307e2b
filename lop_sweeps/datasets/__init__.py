"""What is learned from: one file for each data set, and `DataSet`, from which one's own derives."""

from lop_sweeps.datasets.dataset import DataSet, LabelledSet

__all__ = ["DataSet", "LabelledSet"]
