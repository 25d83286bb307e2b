"""Which folders become which packages; everything else is in pyproject.toml.

`conf/` and `analysis/` stand at the top of the checkout, where people look for them, but are installed in
`lop_sweeps`: as import names of their own they would collide with anybody's. pyproject.toml cannot say so
for folders it finds by itself, hence this file. No package has to be listed.
"""

from setuptools import find_namespace_packages, find_packages, setup

packages = find_packages(include=["lop_sweeps", "lop_sweeps.*"])
packages += ["lop_sweeps.analysis", *(f"lop_sweeps.analysis.{name}" for name in find_packages("analysis"))]
# Only conf/ itself needs an __init__.py (Hydra asks for it); the groups below it are folders of YAML files.
groups = find_namespace_packages("conf", exclude=["*__pycache__*"])
packages += ["hydra_plugins.lop_sweeps"]  # the namespace in which Hydra accepts plugins
packages += ["lop_sweeps.conf", *(f"lop_sweeps.conf.{group}" for group in groups)]

setup(
    packages=packages,
    package_dir={"lop_sweeps.conf": "conf", "lop_sweeps.analysis": "analysis"},
    package_data={"": ["*.yaml", "py.typed"]},
)
