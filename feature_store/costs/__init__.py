"""What each feature takes up and who reads it."""
