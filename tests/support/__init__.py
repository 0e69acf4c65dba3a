"""What tests share: fakes, strategies, instances, sites."""
