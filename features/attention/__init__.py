"""What class activation maps say about words and about voicing."""
