"""Growth of perturbations: typical, by Lyapunov exponents, and in mean square."""
