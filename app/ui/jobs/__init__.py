"""Shows long work as rows: installations, comparisons, downloads; one form for all of it."""
