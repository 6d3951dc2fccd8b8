"""§3 of the paper: the model, from the two masks to the three variants."""
