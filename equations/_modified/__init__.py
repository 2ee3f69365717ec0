"""Modified equations, and the increment field of a discrete algorithm that they are made from."""
