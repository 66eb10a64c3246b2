"""The installed version."""

import importlib.metadata

VERSION = importlib.metadata.version("qkd-llm")
