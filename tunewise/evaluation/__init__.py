"""Evaluation: a model and examples give predictions; a prompt gets its answer."""
