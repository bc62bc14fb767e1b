"""What the page of a study shows, read from the results on disk: answers, cautions, maps, explanations and facts."""
