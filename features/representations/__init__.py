"""Turn patterns and maps into features for RDMs, and store them."""
