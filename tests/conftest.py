"""What all tests share."""

from hypothesis import settings

# A busy machine can hold up any example; how long tests take is pytest-timeout's business.
settings.register_profile("folio", deadline=None)
settings.load_profile("folio")
