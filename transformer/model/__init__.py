"""The model (§3 of the paper): masks, layers, stacks and the three variants."""
