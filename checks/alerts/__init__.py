"""Alerts: what has failed, is overdue or has recovered, told once to the log and to a webhook."""
