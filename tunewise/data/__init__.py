"""Rows become examples, examples become token ids, token ids become packed batches."""
