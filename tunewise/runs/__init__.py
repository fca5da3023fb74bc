"""The parts of one run: what it begins with, its model, its folder, and how it resumes."""
