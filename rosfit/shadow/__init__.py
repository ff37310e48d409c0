"""One truth about each device's configuration: desired, reported, and what differs."""
