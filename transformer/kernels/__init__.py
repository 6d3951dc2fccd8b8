"""The same results, computed faster on some hardware: each kernel names its plain counterpart and their test.

Readers of the paper can skip this package.
"""
