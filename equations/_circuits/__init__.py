"""Circuits of neurons that learn in continuous time, and the streams of stimuli that drive them."""
