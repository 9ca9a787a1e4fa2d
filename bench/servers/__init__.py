"""The baselines: each is a program that prints one JSON line {"port", "about"} once it listens on 127.0.0.1."""
