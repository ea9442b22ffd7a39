"""What a method is: its metadata (`spec`, read without torch) and its contract (`contract`)."""
