"""Compare RDMs: similarity measures, ranks, noise ceilings, partial correlations and fitted models."""
