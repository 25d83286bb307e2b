"""The fused engine: training steps of fully connected networks, compiled, one run per thread."""
