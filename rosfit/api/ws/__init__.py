"""`/ws`: live telemetry, status and more for programs and pages that are written by others."""
