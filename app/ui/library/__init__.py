"""Shows the models that are here: one card each with every way to load it, filters, and a field that builds what is in view."""
