"""For tests of research code: the laws that every model of this package keeps, checked on any other."""

from transformer.testing.contract import ContractReport as ContractReport
from transformer.testing.contract import assert_transformer_contract as assert_transformer_contract
