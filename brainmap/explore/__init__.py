"""Serve the explorer: a local web application over a finished study, or over a network and sounds."""
