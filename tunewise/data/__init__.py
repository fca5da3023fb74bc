"""Data: rows become examples, examples become token ids, and these become packed batches."""
