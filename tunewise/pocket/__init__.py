"""The embedded model, its pretraining, and the grammar of its task."""
