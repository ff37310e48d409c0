"""For all tests, the bridge's too: property tests judge results and never the time, on machines that are busy."""

import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("rosfit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("rosfit")

# As the server does, and not with every local variable of every frame, which takes seconds.
plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
structlog.configure(processors=[structlog.processors.add_log_level, plain])
