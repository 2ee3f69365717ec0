"""The order with which an equation approaches its algorithm."""
