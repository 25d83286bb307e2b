"""Methods of the field against trajectories of their authors' code (../shared/golden/field)."""
