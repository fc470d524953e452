from .cpu_amp_optim_wrapper import CPUAmpOptimWrapper  # noqa: F401
from .hooks import *  # noqa: F401,F403
