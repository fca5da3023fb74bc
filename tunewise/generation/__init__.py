"""Generation: a model writes texts, token by token."""
