"""What each figure shows, and its files."""
