"""Imports Keras and TensorFlow Lite models as an experiment with its weights."""
