"""Run the int8 ONNX graph of Kokoro in torch, on any device: on a GPU about a hundred times faster than real time.

The graph multiplies integers and scales the result. Here each such product is one of floats, with the weights converted
to float32 once. The rounding of the activations is left out, so the sound is a little better than the original's. A CPU
computes large convolutions in bfloat16, which takes it less time. What does not depend on the inputs is computed once.
Only the operators of this graph are supported.
"""
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import nn

LARGE = 65_536                                              # numbers of a convolution that a CPU computes in bfloat16
FLOAT, INT32, INT64, BOOL = 1, 6, 7, 9                      # onnx.TensorProto.DataType
DTYPES = {FLOAT: torch.float32, INT32: torch.int64, INT64: torch.int64, BOOL: torch.bool}


def together(a, b):
    "Two operands on one device: what was computed from shapes lives on the CPU."
    if a.device == b.device: return a, b
    if a.device.type == "cpu" and a.numel() == 1 and a.ndim <= b.ndim: return a.reshape(()), b      # a number needs no copy
    if b.device.type == "cpu" and b.numel() == 1 and b.ndim <= a.ndim: return a, b.reshape(())
    return (a.to(b.device), b) if a.device.type == "cpu" else (a, b.to(a.device))


def binary(work): return lambda attributes: lambda a, b: work(*together(a, b))
def unary(work): return lambda attributes: work


def divide(a, b): return a // b if not a.is_floating_point() and not b.is_floating_point() else a / b


def gather(attributes):
    axis = attributes.get("axis", 0)
    def work(x, index):
        if index.ndim == 0: return x.select(axis, int(index) % x.shape[axis])
        index = index.to(x.device)
        index = torch.where(index < 0, index + x.shape[axis], index)
        return x.index_select(axis, index.flatten()).reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1:])
    return work


def reshape(attributes):
    def work(x, shape):
        shape = shape.tolist()
        return x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(shape)])
    return work


def cut(attributes):
    def work(x, starts, ends, axes=None, steps=None):
        starts, ends = starts.tolist(), ends.tolist()
        axes = axes.tolist() if axes is not None else range(len(starts))
        steps = steps.tolist() if steps is not None else [1] * len(starts)
        for start, end, axis, step in zip(starts, ends, axes, steps):
            where = [slice(None)] * x.ndim
            if step > 0: where[axis] = slice(start, end, step); x = x[tuple(where)]
            else:
                assert step == -1 and start == -1, (start, end, step)
                x = x.flip(axis)
        return x
    return work


def squeeze(attributes):
    def work(x, axes=None):
        if axes is None: return x.squeeze()
        return x.squeeze(tuple(axes.tolist()))
    return work


def unsqueeze(attributes):
    def work(x, axes):
        for axis in sorted(axes.tolist()): x = x.unsqueeze(axis)
        return x
    return work


def split(attributes):
    axis = attributes.get("axis", 0)
    def work(x, sizes): return x.split(sizes.tolist(), axis)
    return work


def in_its_precision(work):
    "A convolution in the precision of its weight; a bias of a single number is on the CPU."
    def computed(x, weight, bias=None):
        bias = None if bias is None else bias.to(x.device, weight.dtype)
        return work(x.to(weight.dtype), weight, bias).to(x.dtype)
    return computed


def convolve(attributes):
    dilation, group, stride, pads = (attributes[name] for name in ("dilations", "group", "strides", "pads"))
    assert pads[0] == pads[1], pads
    return in_its_precision(lambda x, weight, bias: F.conv1d(x, weight, bias, stride[0], pads[0], dilation[0], group))


def convolve_back(attributes):
    dilation, group, stride, pads = (attributes[name] for name in ("dilations", "group", "strides", "pads"))
    more = attributes.get("output_padding", [0])[0]
    return in_its_precision(lambda x, weight, bias: F.conv_transpose1d(x, weight, bias, stride[0], pads[0], more, group, dilation[0]))


def resize(attributes):
    mode = attributes["mode"].decode()
    def work(x, roi, scales):
        size = int(np.floor(x.shape[-1] * float(scales[-1])))
        if mode == "nearest": return F.interpolate(x, size=size, mode="nearest")
        return F.interpolate(x, size=size, mode="linear", align_corners=False)
    return work


def cast(attributes):
    dtype = DTYPES[attributes["to"]]
    return lambda x: x.to(dtype)


def pad(attributes):
    def work(x, pads):
        pads = pads.tolist()
        n = len(pads) // 2
        assert not any(pads[:n - 1]) and not any(pads[n:-1]), pads
        before, after = pads[n - 1], pads[-1]
        if x.ndim == 2: return F.pad(x[:, None], (before, after), "reflect")[:, 0]
        return F.pad(x, (before, after), "reflect")
    return work


def spectrum(attributes):
    def work(x, step, window, length):
        made = torch.stft(x.reshape(x.shape[0], -1), int(length), int(step), window=window, center=False, return_complex=True)
        return torch.view_as_real(made).transpose(1, 2)
    return work


def scatter(attributes):
    def work(x, indices, updates):
        x = x.clone()
        x[tuple(indices.to(x.device).unbind(-1))] = updates
        return x
    return work


def mean(attributes):
    keep = bool(attributes.get("keepdims", 1))
    return lambda x, axes: x.mean(tuple(axes.tolist()), keepdim=keep)


def total(attributes):
    keep = bool(attributes.get("keepdims", 1))
    return lambda x, axes: x.sum(tuple(axes.tolist()), keepdim=keep)


def layer_norm(attributes):
    eps = attributes["epsilon"]
    return lambda x, weight, bias: F.layer_norm(x, x.shape[-1:], weight, bias, eps)


def skip_layer_norm(attributes):
    eps = attributes["epsilon"]
    def work(x, skip, weight, bias, more=None):
        x = x + skip
        return F.layer_norm(x if more is None else x + more, x.shape[-1:], weight, bias, eps)
    return work


def fast_gelu(attributes): return lambda x, bias=None: F.gelu(x if bias is None else x + bias, approximate="tanh")


def fused_product(attributes):
    def work(a, b):
        if attributes["transA"]: a = a.transpose(-1, -2)
        if attributes["transB"]: b = b.transpose(-1, -2)
        return (a @ b) * attributes["alpha"]
    return work


def power(attributes):
    def work(a, b):
        if b.numel() == 1 and b.device.type == "cpu": return a ** b.item()
        return torch.pow(*together(a, b))
    return work


def home(parts):
    "The device of those of the parts that are not on the CPU."
    return max((part.device for part in parts), key=lambda device: device.type != "cpu")


def join(attributes):
    def work(*parts):
        device = home(parts)
        return torch.cat([part.to(device) for part in parts], attributes["axis"])
    return work


def choose(attributes):
    def work(condition, a, b):
        device = home((condition, a, b))
        return torch.where(condition.to(device), a.to(device), b.to(device))
    return work


def count(attributes):
    def work(start, limit, step): return torch.arange(int(start), int(limit), int(step), device=limit.device)
    return work


def constant_of_shape(attributes):
    value = float(numpy_helper.to_array(attributes["value"])[0]) if "value" in attributes else 0.0
    whole = "value" in attributes and attributes["value"].data_type == INT64
    return lambda shape: torch.full(shape.tolist(), int(value) if whole else value, dtype=torch.int64 if whole else torch.float32)


def clip(attributes):
    return lambda x, low=None, high=None: x.clamp(None if low is None else low.item(), None if high is None else high.item())


OPERATORS = {
    "Add": binary(torch.add), "And": binary(torch.logical_and), "Cast": cast, "Clip": clip,
    "Atan": unary(lambda x: torch.atan(torch.nan_to_num(x, nan=0.0))),      # 0 / 0: the phase of a silent bin
    "Concat": join, "ConstantOfShape": constant_of_shape,
    "Conv": convolve, "ConvTranspose": convolve_back, "Cos": unary(torch.cos),
    "CumSum": lambda attributes: lambda x, axis: x.cumsum(int(axis)),
    "DequantizeLinear": lambda attributes: lambda x, scale, zero: (x.float() - zero.to(x.device).float()) * scale.to(x.device),
    "Div": binary(divide), "Equal": binary(torch.eq), "Exp": unary(torch.exp),
    "Expand": lambda attributes: lambda x, shape: x.broadcast_to(torch.broadcast_shapes(x.shape, shape.tolist())),
    "FastGelu": fast_gelu, "Floor": unary(torch.floor), "FusedMatMul": fused_product, "Gather": gather,
    "Greater": binary(torch.gt), "GreaterOrEqual": binary(torch.ge), "LayerNormalization": layer_norm,
    "LeakyRelu": lambda attributes: lambda x: F.leaky_relu(x, attributes.get("alpha", 0.01)), "Less": binary(torch.lt),
    "MatMul": binary(torch.matmul), "Mul": binary(torch.mul),
    "NonZero": lambda attributes: lambda x: x.nonzero().T, "Pad": pad, "Pow": power, "Range": count, "ReduceMean": mean,
    "ReduceSum": total, "Reshape": reshape, "Resize": resize, "Round": unary(torch.round), "STFT": spectrum, "ScatterND": scatter,
    "Shape": lambda attributes: lambda x: torch.tensor(x.shape), "Sigmoid": unary(torch.sigmoid), "Sin": unary(torch.sin),
    "SkipLayerNormalization": skip_layer_norm, "Slice": cut,
    "Softmax": lambda attributes: lambda x: torch.softmax(x, attributes.get("axis", -1)), "Split": split,
    "Sqrt": unary(torch.sqrt), "Squeeze": squeeze, "Sub": binary(torch.sub), "Tanh": unary(torch.tanh),
    "Transpose": lambda attributes: lambda x: x.permute(attributes["perm"]), "Unsqueeze": unsqueeze, "Where": choose,
}


class TorchGraph:
    """An ONNX graph as a list of torch calls; `graph(**inputs)` gives the values named in `wanted`. A function in `changes` under
    the name of a value gets it and gives what is used in its place."""
    def __init__(self, path: str, wanted: list[str], device: str = "cpu"):
        self.device, self.wanted, self.changes = device, wanted, {}
        graph = onnx.load(path).graph
        self.values = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
        self.inputs = {item.name for item in graph.input} - set(self.values)
        self.nodes = {output: node for node in graph.node for output in node.output if output}
        self.users = {}
        for node in graph.node:
            for name in node.input: self.users.setdefault(name, []).append(node)
        self.steps = self._steps(graph.node)
        self.values = {name: self._tensor(value) for name, value in self.values.items() if not isinstance(value, nn.Module)}
        self._fold()

    def _tensor(self, value):
        "Weights on the device; whole numbers, which are shapes and axes, on the CPU."
        tensor = torch.from_numpy(np.array(value))
        if self.device == "cpu" and tensor.ndim == 3 and tensor.is_floating_point() and tensor.numel() >= LARGE: return tensor.bfloat16()
        return tensor.to(self.device) if tensor.is_floating_point() and tensor.numel() > 1 or tensor.dtype in (torch.uint8, torch.int8) else tensor

    def _only_user(self, name, kind):
        users = self.users[name]
        assert len(users) == 1 and users[0].op_type == kind, (name, kind)
        return users[0]

    def _product(self, node):
        "MatMulInteger or ConvInteger with what rounds and scales around it, as one product of floats."
        x = self.nodes[node.input[0]].input[0]
        weight, zero = self.values[node.input[1]].astype(np.float32), self.values[node.input[3]].astype(np.float32)
        after, bias = self.users[node.output[0]][0], []
        if after.op_type == "Add":                                              # of the rounded bias
            source = self.nodes[next(name for name in after.input if name != node.output[0])]
            while source.op_type != "Div": source = self.nodes[source.input[0]]
            bias = [source.input[0]]
            after = self._only_user(after.output[0], "Cast")
        after = self._only_user(after.output[0], "Mul")
        scales = next(name for name in after.input if name not in self.nodes or self.nodes[name].op_type != "Cast")
        scale = next(self.values[name] for name in self.nodes[scales].input if name in self.values)
        if node.op_type == "MatMulInteger": self.values[f"{node.output[0]}/weight"] = (weight - zero) * scale
        else: self.values[f"{node.output[0]}/weight"] = (weight - zero.reshape(-1, 1, 1)) * scale.reshape(-1, 1, 1)
        kind = "MatMul" if node.op_type == "MatMulInteger" else "Conv"
        return OPERATORS[kind](self._attributes(node)), [x, f"{node.output[0]}/weight", *bias], [after.output[0]]

    def _lstm(self, node):
        "DynamicQuantizeLSTM, two ways, from silence."
        attributes, names = self._attributes(node), list(node.input)
        size = attributes["hidden_size"]
        weights = []
        for which, scale, zero in ((1, 8, 9), (2, 10, 11)):                     # [2, in, 4 * size], gates i o f c
            weight, scale, zero = (self.values[names[i]].astype(np.float32) for i in (which, scale, zero))
            weight = ((weight - zero.reshape(-1, 1, 1)) * scale.reshape(len(scale), 1, -1)).transpose(0, 2, 1)
            weights.append(weight)
        both = self.values[names[3]]
        order = np.concatenate([np.arange(size) + gate * size for gate in (0, 2, 3, 1)])    # torch: i f c o
        lstm = nn.LSTM(weights[0].shape[2], size, bidirectional=True)
        with torch.no_grad():
            for way, end in enumerate(("", "_reverse")):
                parts = dict(weight_ih=weights[0][way], weight_hh=weights[1][way], bias_ih=both[way, :4 * size], bias_hh=both[way, 4 * size:])
                for name, value in parts.items(): getattr(lstm, f"{name}_l0{end}").copy_(torch.from_numpy(value[order]))
        lstm.to(self.device).requires_grad_(False).flatten_parameters()
        return lambda x: lstm(x)[0].unflatten(-1, (2, size)).transpose(1, 2), [names[0]], [node.output[0]]

    def _attributes(self, node): return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}

    def _steps(self, nodes):
        "The calls that lead to what is wanted, in order: (work, names in, names out)."
        made = []
        for node in nodes:
            if node.op_type in ("MatMulInteger", "ConvInteger"): step = self._product(node)
            elif node.op_type == "DynamicQuantizeLSTM": step = self._lstm(node)
            elif node.op_type == "DynamicQuantizeLinear": continue
            elif node.op_type in OPERATORS: step = OPERATORS[node.op_type](self._attributes(node)), list(node.input), list(node.output)
            else: raise ValueError(f"an operator that is not known: {node.op_type}")
            made.append(step)
        made_by = {}
        for i, (_, _, outs) in enumerate(made):
            for name in outs: made_by.setdefault(name, i)                       # a product comes before the scaling it replaces
        needed, stack = set(), list(self.wanted)
        while stack:
            name = stack.pop()
            if name in made_by and made_by[name] not in needed:
                needed.add(made_by[name])
                stack += made[made_by[name]][1]
        return self._in_order([made[i] for i in sorted(needed)])

    def _in_order(self, steps):
        known, ordered = set(self.values) | self.inputs | {""}, []
        while steps:
            ready = [step for step in steps if all(name in known for name in step[1])]
            assert ready, steps[0][1]
            for step in ready: known.update(step[2])
            ordered += ready
            steps = [step for step in steps if not all(name in known for name in step[2])]
        return ordered

    @torch.inference_mode()
    def _fold(self):
        "Compute what depends on no input, and number the rest."
        varying, steps = set(self.inputs), []
        for work, names, outs in self.steps:
            if varying.intersection(names): steps.append((work, names, outs)); varying.update(outs)
            else: self._keep(self.values, work(*self._arguments(self.values, names)), outs)
        used = {name for _, names, _ in steps for name in names} | set(self.wanted)
        self.values = {name: value for name, value in self.values.items() if name in used}
        last = {name: i for i, (_, names, _) in enumerate(steps) for name in names}
        self.steps = [(*step, [name for name in set(step[1]) if last[name] == i and name in varying and name not in self.wanted])
                      for i, step in enumerate(steps)]

    def _arguments(self, values, names):
        arguments = [values[name] if name else None for name in names]
        while arguments and arguments[-1] is None: arguments.pop()
        return arguments

    def _keep(self, values, made, outs):
        if len(outs) == 1 and not isinstance(made, tuple): values[outs[0]] = made
        elif isinstance(made, tuple): values.update(zip(outs, made))
        else: values[outs[0]] = made

    @torch.inference_mode()
    def __call__(self, **inputs) -> list[torch.Tensor]:
        values = dict(self.values, **inputs)
        for work, names, outs, done in self.steps:
            self._keep(values, work(*self._arguments(values, names)), outs)
            if outs[0] in self.changes: values[outs[0]] = self.changes[outs[0]](values[outs[0]])
            for name in done: values.pop(name, None)
        return [values[name] for name in self.wanted]
