"""What methods and measures are called: by the user, in labels, in figures and in tables."""
