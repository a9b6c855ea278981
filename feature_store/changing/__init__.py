"""Changing what is declared: what is applied and since when, rollouts of services, retiring, what a change will cost."""
