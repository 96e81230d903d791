"""The steps of a lab, one file for each kind: what it means, how it runs, what it measures."""
