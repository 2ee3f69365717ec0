"""How irreversible training is: measures, forces, and what is estimated from trajectories alone."""
