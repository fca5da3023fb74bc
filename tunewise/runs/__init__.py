"""The parts of one run: its preparation, its model, its folder, and how it resumes."""
