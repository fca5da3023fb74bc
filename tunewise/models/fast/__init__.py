"""Fast forms of plain formulas; a test for each says that they agree."""
