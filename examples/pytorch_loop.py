"""A device as a layer in PyTorch: DataLoader, Adam, a scheduler, gradient clipping, layers of torch before and behind.

python examples/pytorch_loop.py             # the golden model; DYADPROP_DEVICE=verilator takes the hardware itself
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import dyadprop as dp
from dyadprop.data import digits
from dyadprop.torch import Module

EPOCHS = 3

torch.manual_seed(0)
data = digits()
train = TensorDataset(torch.tensor(data.train_x).float(), torch.tensor(data.train_y).argmax(1))
test_x, test_labels = torch.tensor(data.test_x).float(), torch.tensor(data.test_y).argmax(1)

net = dp.Network(48, [dp.Dense(32, "tanh"), dp.Dense(16, "relu")], input_gradient=True)  # for the layer before it
with dp.open(None, net) as device:
    model = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), Module(net, device), nn.Linear(16, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.7)
    loader = DataLoader(train, batch_size=32, shuffle=True)
    for epoch in range(1, EPOCHS + 1):
        total = 0.0
        for x, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(x), labels)
            loss.backward()
            scale = device.stats.scale  # of the seeds: a mean loss hands down tiny gradients, and loses no bits
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item() * len(x) / len(train)
        scheduler.step()
        with torch.inference_mode():
            accuracy = (model(test_x).argmax(1) == test_labels).float().mean()
        print(f"epoch {epoch}  cost {total:.4f}  test {accuracy:.4f}  seeds scaled by {scale:g}")
