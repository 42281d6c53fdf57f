"""Shows the state and passes on what a person wants: Qt; talks only to its link and to core."""
