"""Commands: asked once, published in order, followed to one final status; and who drives a robot."""
