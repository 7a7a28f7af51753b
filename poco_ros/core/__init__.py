"""Floor 0: the words that every other package speaks. numpy, PyYAML and safetensors only; no ROS,
no torch.
"""
