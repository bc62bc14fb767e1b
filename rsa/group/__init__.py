"""Test maps over participants: spaces of maps, adjacency, enhancement, clusters and the group test."""
