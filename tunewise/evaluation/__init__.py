"""Evaluation: predictions for examples whose answers are known, and answers to new prompts."""
