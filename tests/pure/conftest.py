"""How the property tests of this folder are run: the same examples every time, and no clock."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "pure",
    deadline=None,
    derandomize=True,
    max_examples=200,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("pure")
