#!/usr/bin/env bash
# `make gpu`: the tests marked gpu, then perf/gpu.py, on a machine with an NVIDIA GPU; less than eight minutes.
#
# Needs nothing but this checkout, and PyTorch 2.9 or newer. The usual `.venv` where it can be made; otherwise (no
# internet, say) the Python that has PyTorch, and build/wheels for what that lacks (perf/wheels.sh fills it).
#
#   perf/gpu.sh [--quick] [--json FILE]      # the options of perf/gpu.py
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

sees_gpu() { "$1" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())' 2>/dev/null; }

python=.venv/bin/python
if [ ! -x $python ] && ! sees_gpu "${PYTHON:-python3}"; then timeout 600 make setup || true; fi
if [ -x $python ] && sees_gpu $python; then
  export PYTHONPATH=$root
else
  python=${PYTHON:-python3}
  sees_gpu "$python" || { echo "make gpu: neither .venv nor $python has a PyTorch that sees a GPU" >&2; exit 1; }
  site=$root/build/gpu-site
  rm -rf "$site" && mkdir -p "$site"
  # What the machine has is left alone; of the rest, what lies in build/wheels.
  shopt -s nullglob
  missing=()
  for wheel in build/wheels/*.whl; do
    name=$(basename "$wheel" | cut -d- -f1)
    "$python" -c "import importlib.metadata as m, sys; m.version(sys.argv[1])" "$name" 2>/dev/null || missing+=("$wheel")
  done
  if ((${#missing[@]})); then
    "$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --no-compile --target "$site" \
      "${missing[@]}"
  fi
  # The packages as an installation would lay them.
  cp -r lop_sweeps hydra_plugins "$site"/
  cp -r conf "$site"/lop_sweeps/conf && cp -r analysis "$site"/lop_sweeps/analysis
  # A copy of the tests, so that the checkout's own lop_sweeps is not found before the one above.
  cp -r tests perf pyproject.toml "$site"/
  cd "$site"
  export PYTHONPATH=$site
fi

export PYTHONUNBUFFERED=1 NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-/tmp/lop-numba-$(id -u)}
"$python" perf/gpu.py "$@"
