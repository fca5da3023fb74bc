"""Many runs, one question: what is compared, how it is run, and what came of it."""
