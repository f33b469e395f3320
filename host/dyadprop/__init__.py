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
from dyadprop.formats import Formats, Q
from dyadprop.methods.run import compare
from dyadprop.network import Dense, Network, Parameters, RawParameters
from dyadprop.parameter_files import load_parameters, save_parameters
from dyadprop.probes import Probe
from dyadprop.probes import open_probe as probe
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
    "compare",
    "devices",
    "load_checkpoint",
    "load_parameters",
    "open",
    "probe",
    "relax",
    "save_checkpoint",
    "save_parameters",
]
