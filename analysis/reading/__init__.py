"""From files to frames: which runs there are, what they are, what they logged."""
