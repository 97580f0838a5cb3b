"""Models of other programs: Keras and TensorFlow Lite files in, as an experiment with its weights; trained networks out."""
