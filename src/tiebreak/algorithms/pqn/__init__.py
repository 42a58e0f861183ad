"""PQN: configuration, losses, oracle and five implementations; README.md is the spec."""
