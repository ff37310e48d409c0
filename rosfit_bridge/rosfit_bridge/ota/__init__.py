"""The update agent: takes an update, verifies it, installs it, judges it, and goes back by itself if it is not well."""
