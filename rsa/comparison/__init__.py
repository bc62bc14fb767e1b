"""How alike two RDMs are: measures, ranks, noise ceilings, partial correlations and fitted models."""
