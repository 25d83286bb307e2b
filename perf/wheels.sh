#!/usr/bin/env bash
# For a GPU machine that has PyTorch and its usual company but no internet: download what else `make gpu` needs there,
# in the versions of requirements.lock, for Python 3.12 on x86-64 Linux. Run where there is internet; then take the
# checkout, this folder included, to that machine.
#
#   perf/wheels.sh [FOLDER]        # default: build/wheels
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=${1:-build/wheels}

NEEDED="hydra-core omegaconf antlr4-python3-runtime submitit cloudpickle hydra-submitit-launcher gymnasium
  farama-notifications mujoco mujoco-core pyopengl glfw python-dotenv psutil execnet pytest-xdist seaborn"
platforms=()
for tag in manylinux1 manylinux2014 manylinux_2_{17,24,27,28,31,34,35}; do platforms+=(--platform "${tag}_x86_64"); done

rm -rf "$folder"
mkdir -p "$folder"
for name in $NEEDED; do
  pin=$(grep -E "^$name==[^ ]+" requirements.lock | head -1 | cut -d' ' -f1)
  if [ -z "$pin" ]; then continue; fi # this version of the lock file does without it
  "${PYTHON:-.venv/bin/python}" -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp "${platforms[@]}" --dest "$folder" "$pin" 2>/dev/null ||
    "${PYTHON:-.venv/bin/python}" -m pip --disable-pip-version-check wheel --quiet --no-deps --wheel-dir "$folder" "$pin"
done
du -sh "$folder"
