"""What is to be run, what a run left, and in which state it is."""
