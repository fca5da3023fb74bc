"""A model and encoded examples give predictions."""
