"""Evaluation: translation metrics, reports, training curves and Table 3."""
