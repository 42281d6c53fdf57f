"""Plans a load before it happens: what it takes of each device by part, what can be changed, what helps."""
