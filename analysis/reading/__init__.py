"""From files to frames: which runs are read."""
