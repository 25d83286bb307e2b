import subprocess, sys
subprocess.run([sys.executable,"-c","import lop_sweeps,sys; print(lop_sweeps.__file__); import torch,numba,numpy; print(torch.__version__,numba.__version__,numpy.__version__); import lop_sweeps.conf; import lop_sweeps.analysis.load; import mujoco, gymnasium.envs.mujoco; print('ok')"])
subprocess.run([sys.executable,"-m","pytest","-q","-x","-m","gpu","--durations=5","-p","no:cacheprovider","tests/benchmarks/test_augmentation.py","tests/sweep/test_packs.py"], timeout=75)
