"""The HTTP API: reads for services in any language, over the same reader that Python uses."""
