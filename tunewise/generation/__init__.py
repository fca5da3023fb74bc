"""Writing texts with a model, token by token."""
