"""What an operator runs and watches: backup, checks, retention, health, metrics."""
