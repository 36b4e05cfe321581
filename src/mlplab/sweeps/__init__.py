"""Fused sweeps: many networks of the same structure trained as one batched program."""
