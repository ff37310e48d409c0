"""Updates over the air: signed artifacts, rolled out in waves that stop by themselves."""
