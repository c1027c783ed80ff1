"""A linear head on features of a frozen backbone, fitted in seconds."""

import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from ml.calibration import fit_temperature, log_loss, softmax

HEAD_STRENGTHS = (0.0003, 0.001, 0.003, 0.01, 0.03)  # inverse regularisation of the head, chosen on val


def fit_head(
    train, val, train_index, val_index, *, strengths=HEAD_STRENGTHS, say=lambda line: None
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression by L-BFGS on (N, D) features.

    Its strength is chosen on val, by the log loss after a temperature of its own: a strong one makes timid heads, which
    would lose to worse ones for that alone. The temperature is a part of the result.
    Returns the kernel (D, C) and bias (C,) of a dense layer on the raw features, float32.
    """
    scaler = StandardScaler().fit(train)
    scaler.scale_ = np.maximum(scaler.scale_, 0.01)  # what hardly varies is not blown up beyond what float16 holds
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
