"""Heads on features of a frozen backbone: a linear one, fitted in seconds, or one with a hidden layer."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
from keras import layers
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ml.serving.calibration import fit_temperature, log_loss, softmax
from ml.training.losses import SPARSE, compile_with
from ml.training.networks import LOGITS_LAYER

HEAD_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)  # inverse regularisation of the head, chosen on val
HEAD_BATCH_SIZE = 32
LEAST_DEVIATION = 0.01  # of a feature: what hardly varies is not blown up beyond what float16 holds


def fit_head(
    train, val, train_index, val_index, *, strengths=HEAD_STRENGTHS, say=lambda line: None
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression by L-BFGS on (N, D) features.

    Its strength is chosen on val, by the log loss after a temperature of its own: a strong one makes timid heads, which
    would lose to worse ones for that alone. The temperature is a part of the result.
    Returns the kernel (D, C) and bias (C,) of a dense layer on the raw features, float32.
    """
    scaler = StandardScaler().fit(train)
    scaler.scale_ = np.maximum(scaler.scale_, LEAST_DEVIATION)
    scaled = scaler.transform(train)

    def fit(strength: float) -> tuple[np.ndarray, np.ndarray, float]:
        start = time.monotonic()
        kernel, bias = _dense(LogisticRegression(C=strength, max_iter=300, tol=1e-3).fit(scaled, train_index))
        kernel, bias = kernel / scaler.scale_[:, None], bias - (scaler.mean_ / scaler.scale_) @ kernel
        return kernel, bias, time.monotonic() - start

    best_loss, best = np.inf, None
    # A core per strength: BLAS with all cores for each in turn was up to 10 times slower while others use the machine.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(os.cpu_count()) as pool:
        for strength, (kernel, bias, seconds) in zip(strengths, pool.map(fit, strengths), strict=True):
            logits = val @ kernel + bias
            temperature = fit_temperature(logits, val_index)
            loss, top1 = log_loss(softmax(logits, temperature), val_index), (logits.argmax(axis=1) == val_index).mean()
            say(f"head with C={strength}: val top-1 {top1:.3f}, loss {loss:.3f}, {seconds:.1f} s")
            if loss < best_loss:
                best_loss = loss
                best = (kernel / temperature).astype(np.float32), (bias / temperature).astype(np.float32)
    return best


def _dense(fitted: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (D, C) and bias (C,); of two classes scikit-learn keeps one column, half of which is each one's share."""
    kernel, bias = fitted.coef_.T, fitted.intercept_
    if kernel.shape[1] == 1:
        return np.hstack([-kernel / 2, kernel / 2]), np.hstack([-bias / 2, bias / 2])
    return kernel, bias


def build_hidden_head(features: np.ndarray, num_classes: int, settings: dict) -> keras.Model:
    """(N, D) features, standardised as `features` are -> a hidden layer -> dropout -> logits.

    `settings`: `units`, `dropout` and `l2`, as the search of heads names them.
    """
    inputs = keras.Input(features.shape[1:])
    mean, deviation = _standardisation(features)
    x = layers.Normalization(mean=mean, variance=deviation**2)(inputs)
    penalty = keras.regularizers.L2(settings["l2"])
    x = layers.Dense(settings["units"], activation="relu", kernel_regularizer=penalty)(x)
    x = layers.Dropout(settings["dropout"])(x)
    return keras.Model(inputs, layers.Dense(num_classes, kernel_regularizer=penalty, name=LOGITS_LAYER)(x))


def fit_hidden_head(
    train, val, train_index, val_index, num_classes: int, settings: dict, *, epochs: int = 100, patience: int = 10
) -> tuple[list[np.ndarray], dict]:
    """Adam with `settings["learning_rate"]` until the log loss on val stops falling for `patience` epochs.

    Returns the weights of the best epoch, and its figures on val. The weights: kernel (D, U) and bias (U,) of the
    hidden layer on the raw features, then (U, C) and (C,) of the logits.
    """
    model = build_hidden_head(train, num_classes, settings)
    compile_with(model, SPARSE, settings["learning_rate"])
    stopping = keras.callbacks.EarlyStopping("val_log_loss", mode="min", patience=patience, restore_best_weights=True)
    fitted = model.fit(
        train, train_index, validation_data=(val, val_index), epochs=epochs, batch_size=HEAD_BATCH_SIZE,
        callbacks=[stopping], verbose=0,
    )  # fmt: skip
    best = int(np.argmin(fitted.history["val_log_loss"]))
    mean, deviation = _standardisation(train)
    kernel, bias, *logits = (weight for layer in model.layers[2:] for weight in layer.get_weights())
    return [kernel / deviation[:, None], bias - (mean / deviation) @ kernel, *logits], figures_of(model, fitted, best)


def figures_of(model: keras.Model, fitted: keras.callbacks.History, epoch: int) -> dict:
    """Figures on val of a network trained by `compile_with` after an epoch, counted from 0."""
    return {
        "val_accuracy": fitted.history["val_accuracy"][epoch],
        "val_log_loss": fitted.history["val_log_loss"][epoch],
        "best_epoch": epoch + 1,
        "epochs": len(fitted.epoch),
        "parameters": model.count_params(),
    }


def _standardisation(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return features.mean(axis=0), np.maximum(features.std(axis=0), LEAST_DEVIATION)
