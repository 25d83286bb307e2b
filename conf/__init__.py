"""The Hydra tree. This file makes it a package, so that Hydra finds it as pkg://lop_sweeps.conf."""
