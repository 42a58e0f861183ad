"""What can be measured of an agent or an environment."""
