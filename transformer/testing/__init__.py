"""Checks, for tests of research code, that a custom model obeys the laws of this package's models."""

from transformer.testing.contract import ContractReport as ContractReport
from transformer.testing.contract import assert_transformer_contract as assert_transformer_contract
