"""Maps over participants: where they lie, what is adjacent, enhancement, clusters and the test itself."""
