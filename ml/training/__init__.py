"""Networks and their training. The only folder that imports keras, keras_tuner, tensorflow or scikit-learn."""
