"""What methods are called: by the user, in figures and in tables."""
