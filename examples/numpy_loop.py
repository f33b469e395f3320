"""A training loop in plain NumPy: gradients come from a device, the step is yours.

python examples/numpy_loop.py             # the golden model; DYADPROP_DEVICE=verilator takes the hardware itself
"""

import numpy as np

import dyadprop as dp
from dyadprop.data import digits

EPOCHS, BATCH, RATE = 4, 32, 0.003

data = digits()
net = dp.Network(64, [dp.Dense(32, "tanh"), dp.Dense(10)], cost="squared_error")
params = net.init(seed=0)
rng = np.random.default_rng(0)

with dp.open(None, net) as device:
    for epoch in range(1, EPOCHS + 1):
        order, cost = rng.permutation(len(data.train_x)), 0.0
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            device.load(params)
            result = device.gradients(data.train_x[batch], data.train_y[batch])
            params = [
                dp.Parameters(p.weight - RATE * g.weight, p.bias - RATE * g.bias)
                for p, g in zip(params, result.gradients, strict=True)
            ]
            cost += result.cost / len(order)
        device.load(params)
        right = device.predict(data.test_x).outputs.argmax(1) == data.test_y.argmax(1)
        print(f"epoch {epoch}  cost {cost:.4f}  test {right.mean():.4f}  saturated {device.stats.saturations}")
