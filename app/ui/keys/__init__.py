"""Shows which keys are kept and takes new ones: typed unseen, sent once to the service, never shown again (I18)."""
