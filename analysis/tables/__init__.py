"""Tables as files: for LaTeX, and as numbers for other programs."""
