"""A device under jax.jit with optax: one call to the device a step, cost and gradients together.

python examples/jax_optax.py              # the golden model; DYADPROP_DEVICE=verilator takes the hardware itself
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import dyadprop as dp
from dyadprop.data import digits
from dyadprop.jax import apply, loss

EPOCHS, BATCH = 3, 32

data = digits()
logits = dp.Formats(activation=dp.Q(6, 10))  # logits grow; the gradient of their softmax needs the room
net = dp.Network(64, [dp.Dense(32, "tanh"), dp.Dense(10, formats=logits)], cost="softmax_cross_entropy")
params = jax.tree.map(jnp.float32, net.init(seed=0))
x, labels = data.train_x.astype(np.float32), data.train_y.argmax(1)

with dp.open(None, net) as device:
    cost, outputs = loss(device), apply(device)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.01))
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, x, labels):
        """Take one step; all of it but the device's part is compiled."""
        value, gradients = jax.value_and_grad(cost)(params, x, labels)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    rng = np.random.default_rng(0)
    for epoch in range(1, EPOCHS + 1):
        order, total = rng.permutation(len(x)), 0.0
        for batch in np.split(order, range(BATCH, len(order), BATCH)):
            params, state, value = step(params, state, x[batch], labels[batch])
            total += float(value) * len(batch) / len(x)
        right = outputs(params, data.test_x).argmax(1) == data.test_y.argmax(1)
        print(f"epoch {epoch}  cost {total:.4f}  test {right.mean():.4f}")
