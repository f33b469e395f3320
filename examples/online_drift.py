"""Learn at batch 1, on the device, from a stream whose law drifts; draw how the error follows it.

    python examples/online_drift.py [online_drift.png]      # DYADPROP_DEVICE=verilator takes the hardware itself

A frozen network is right until the law moves. The device takes a step after every sample (lossless SGD: words of 8 bits
follow real-number SGD however small the step), and so stays right; float64 beside it shows what words cost.
"""

import sys

import numpy as np
from matplotlib.figure import Figure

import dyadprop as dp

SAMPLES, WINDOW, RATE = 12_000, 300, 2.0**-5

rng = np.random.default_rng(0)
x = rng.uniform(-1, 1, (SAMPLES, 4))
# Still, drifting by a quarter turn, still.
angle = np.pi * np.clip(np.arange(SAMPLES) / SAMPLES - 0.25, 0, 0.5)[:, None]
first, second = np.tanh(x[:, :2] + x[:, 2:]), np.tanh(x[:, 2:] - x[:, :2])
y = 0.5 * (np.cos(angle) * first + np.sin(angle) * second)

net = dp.Network(4, [dp.Dense(12, "tanh"), dp.Dense(2)])
with dp.open("float", net) as device:  # a float64 run over the stream's start says which words are needed
    device.load(net.init(seed=0))
    device.train(x[: SAMPLES // 4], y[: SAMPLES // 4], RATE)
    warm = device.parameters()
words = dp.choose_formats(net, [net.init(seed=0), warm], x[:500], y[:500], bits=8)

curves = {}
for label, name, network in (("float64", "float", net), ("device, 8 bits", None, words)):
    with dp.open(name, network) as device:
        device.load(net.init(seed=0))
        curves[label] = device.train(x, y, RATE, batch_size=1).costs
with dp.open(None, words) as device:
    device.load(warm)
    curves["frozen after a quarter"] = 0.5 * ((device.predict(x).outputs - y) ** 2).sum(1)

figure = Figure(figsize=(8, 4), layout="constrained")
axes = figure.subplots()
for label, costs in curves.items():
    mean = np.convolve(costs, np.full(WINDOW, 1 / WINDOW), "valid")
    axes.semilogy(np.arange(WINDOW, SAMPLES + 1), mean, label=label)
    before, after = costs[SAMPLES // 5 : SAMPLES // 4].mean(), costs[-2000:].mean()
    print(f"{label}: cost {before:.5f} before the drift, {after:.5f} at the end")
axes.axvspan(SAMPLES / 4, 3 * SAMPLES / 4, color="0.93", label="the law drifts")
axes.set(xlabel="sample", ylabel=f"cost, mean of {WINDOW}")
axes.legend(frameon=False)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "online_drift.png")
