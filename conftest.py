"""For all tests, the bridge's too: property tests judge results and never the time, on machines that are busy."""

from hypothesis import HealthCheck, settings

settings.register_profile("rosfit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rosfit")
