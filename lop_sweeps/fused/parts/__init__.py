"""Methods that act at every step, each compiled apart from the training loop (see `lop_sweeps.fused.methods`)."""
