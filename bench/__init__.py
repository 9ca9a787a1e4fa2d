"""Benches of the gateway against its baselines; `python -m bench.run --help`. Not part of the wheel."""
