"""What the project promises about speed and size, measured against floors of the same machine in the same run."""
