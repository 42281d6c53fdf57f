"""Names the product and its version, the one place where both are written."""

PRODUCT_NAME = "Engine Room"
COMMAND_NAME = "engine-room"
__version__ = "0.1.0"
