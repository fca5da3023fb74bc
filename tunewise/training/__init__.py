"""Training: its configuration, the schedule, and the loop."""
