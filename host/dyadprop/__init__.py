"""dyadprop: exact neural-network gradients by physical relaxation, in open silicon.

Describe a network, open a device, train: see README.md. What each bit must be stands in docs/arithmetic.md.
"""

from dyadprop.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from dyadprop.device import Device, DeviceInfo, SaturationError, SaturationWarning, TrainingInterrupted, devices
from dyadprop.device import open_device as open
from dyadprop.errors import (
    BuildError,
    CapacityError,
    DeviceLost,
    DeviceTimeout,
    DyadpropError,
    FormatError,
    NetworkMismatch,
    ProtocolError,
    RangeError,
    ShapeError,
)
from dyadprop.exchange.chain import Imported
from dyadprop.exchange.keras_models import from_keras
from dyadprop.exchange.onnx_files import from_onnx, to_onnx
from dyadprop.exchange.torch_models import from_torch, to_torch
from dyadprop.formats import Formats, Q
from dyadprop.methods.run import compare
from dyadprop.network import Dense, Network, Parameters, RawParameters
from dyadprop.parameter_files import load_parameters, save_parameters
from dyadprop.probes import Probe
from dyadprop.probes import open_probe as probe
from dyadprop.profile import choose_formats
from dyadprop.relaxation.graph import Graph, Node
from dyadprop.relaxation.run import relax
from dyadprop.relaxation.state import State
from dyadprop.relaxation.trajectory import Trajectory
from dyadprop.results import Position, RawResult, RawTraining, Result, Saturation, Stats, TrainResult, WireStats

__all__ = [
    "BuildError",
    "CapacityError",
    "Checkpoint",
    "Dense",
    "Device",
    "DeviceInfo",
    "DeviceLost",
    "DeviceTimeout",
    "DyadpropError",
    "FormatError",
    "Formats",
    "Graph",
    "Imported",
    "Network",
    "NetworkMismatch",
    "Node",
    "Parameters",
    "Position",
    "Probe",
    "ProtocolError",
    "Q",
    "RangeError",
    "RawParameters",
    "RawResult",
    "RawTraining",
    "Result",
    "Saturation",
    "SaturationError",
    "SaturationWarning",
    "ShapeError",
    "State",
    "Stats",
    "TrainResult",
    "TrainingInterrupted",
    "Trajectory",
    "WireStats",
    "choose_formats",
    "compare",
    "devices",
    "from_keras",
    "from_onnx",
    "from_torch",
    "load_checkpoint",
    "load_parameters",
    "open",
    "probe",
    "relax",
    "save_checkpoint",
    "save_parameters",
    "to_onnx",
    "to_torch",
]
