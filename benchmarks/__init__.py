"""tunewise beside Transformers + PEFT and a plain loop: equal work, alternately, timed."""
