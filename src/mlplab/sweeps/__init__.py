"""A whole sweep: its jobs planned, fused, trained, written and counted."""
