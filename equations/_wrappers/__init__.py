"""What stands around an optimizer: schedules, weight decay, volumization."""
