"""All tests, under trial or pytest. No property has a time limit for one example: the machine may be busy."""

from contextlib import suppress

with suppress(ModuleNotFoundError):  # `make services` uses a part of this package before anything is installed
    from hypothesis import settings

    settings.register_profile("ocppgw", deadline=None)
    settings.load_profile("ocppgw")
