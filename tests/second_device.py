"""A pretended GPU: storages of the CPU that bear a label, so that code which mixes devices fails as it would beside a real one.

`with SecondDevice():` makes `torch.device("cuda")` usable. A tensor that is made there, or moved there, has its storage labelled; its `device` is
"cuda:0". An operation on tensors of both kinds is an error, as it is on a GPU, and so is `numpy()` of a labelled one. Numbers stay what the CPU computes.

`torch.cuda.graph` records operations with the tensors that they had, and a replay repeats them on those tensors; Python is not asked again. What needs a
number from the device, or moves one there, is an error while it records. Streams and events do nothing.
"""
from contextlib import ExitStack, contextmanager, nullcontext
from unittest import mock

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
CROSSES = ("aten::copy_",)                                                          # moves numbers from one device to the other
INDICES = ("aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_", "aten::index")     # a GPU takes indices of the CPU, too
AWAY = {torch.Tensor.numpy, torch.Tensor.__array__}


WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select", "aten::unique")
REFUSED = "CUDA error: operation not permitted when stream is capturing"


def tensors(*trees): return [leaf for leaf in tree_leaves(trees) if isinstance(leaf, torch.Tensor)]
def is_cuda(device): return device is not None and torch.device(device).type == "cuda"


class Labels:
    "Which storages are on the pretended device."
    def __init__(self): self.known = {}

    def add(self, tensor):
        storage = StorageWeakRef(tensor.untyped_storage())
        self.known[storage.cdata] = storage
        if len(self.known) % 4096 == 0: self.known = {key: ref for key, ref in self.known.items() if not ref.expired()}

    def __contains__(self, tensor):
        if tensor.device.type == "meta": return False
        found = self.known.get(tensor.untyped_storage()._cdata)
        return found is not None and not found.expired()


class Operations(TorchDispatchMode):
    "Looks at what each operation is given, and labels what it makes."
    def __init__(self, labels, float64):
        super().__init__()
        self.labels, self.float64 = labels, float64

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, op._schema.name
        given = tensors(args, kwargs)
        there = [x for x in given if x in self.labels]
        if there and name not in CROSSES:
            strangers = [x for x in (given[:1] if name in INDICES else given) if x not in self.labels and x.dim() and x.device.type != "meta"]
            if strangers: raise RuntimeError(f"Expected all tensors to be on the same device, but {name} got some on cuda:0 and some on cpu")
        made = op(*args, **kwargs)
        if there and name not in CROSSES:
            for x in tensors(made):
                if x not in self.labels: self.labels.add(x)
                if x.dtype == torch.float64 and not self.float64: raise TypeError(f"{name}: the device has no float64")
        return made


def memory(tensor): return tensor.untyped_storage().data_ptr()


class Graph:
    "What was recorded."
    def __init__(self): self.calls, self.replays = [], 0
    def pool(self): return 0, 1

    @torch.inference_mode()
    def replay(self):
        self.replays += 1
        for op, args, kwargs, made in self.calls:
            for old, new in zip(tensors(made), tensors(op(*args, **kwargs)), strict=True):
                if memory(old) != memory(new): old.copy_(new)           # a result of its own; others are views, or the argument


class Recorder(TorchDispatchMode):
    "Puts operations into a graph. What they changed is as before afterwards, since recording computes nothing."
    def __init__(self, graph, labels):
        super().__init__()
        self.graph, self.labels, self.before = graph, labels, {}

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs, name = kwargs or {}, op._schema.name
        mixed = len({each in self.labels for each in tensors(args, kwargs) if each.dim()}) > 1
        if name in WAITS or name in CROSSES and mixed: raise RuntimeError(f"{REFUSED}: {name}")
        for argument, value in zip(op._schema.arguments, args):
            if argument.alias_info is not None and argument.alias_info.is_write and memory(value) not in self.before:
                self.before[memory(value)] = value.untyped_storage(), value.untyped_storage().clone()
        made = op(*args, **kwargs)
        self.graph.calls.append((op, args, kwargs, made))
        return made

    def __exit__(self, *error):
        super().__exit__(*error)
        with _disable_current_modes():
            for storage, before in self.before.values(): storage.copy_(before)


class Stream:
    def __init__(self, device=None): self.device = device
    def wait_stream(self, other): pass


class Event:
    def record(self, stream=None): pass
    def synchronize(self): pass


class SecondDevice(TorchFunctionMode):
    "The pretended device, while the block lasts; without `float64` it refuses such tensors, as Apple's GPUs do."
    def __init__(self, float64: bool = True):
        super().__init__()
        self.labels, self.graphs, self.capturing = Labels(), [], False
        self.operations = Operations(self.labels, float64)

    def __enter__(self):
        self.stack = ExitStack()
        for name, stand_in in (("is_available", lambda: True), ("mem_get_info", lambda device=None: (64 << 30, 80 << 30)),
                               ("memory_reserved", lambda device=None: 0), ("memory_allocated", lambda device=None: 0),
                               ("synchronize", lambda device=None: None), ("CUDAGraph", Graph), ("graph", self.capture),
                               ("Stream", Stream), ("Event", Event), ("current_stream", Stream),
                               ("stream", lambda stream: nullcontext()), ("device", lambda device: nullcontext())):
            self.stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        self.stack.enter_context(self.operations)
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        return self.stack.__exit__(*error)

    @contextmanager
    def capture(self, graph, pool=None, stream=None, capture_error_mode="global"):
        "In place of `torch.cuda.graph`."
        self.capturing = True
        try:
            with Recorder(graph, self.labels): yield
        finally: self.capturing = False
        self.graphs.append(graph)

    def moved(self, tensor, device):
        "The tensor on the device, copied if it was elsewhere."
        if device is None or is_cuda(device) == (tensor in self.labels): return tensor
        if self.capturing: raise RuntimeError(f"{REFUSED}: to({device})")
        if tensor.device.type == "meta": return tensor.to(CPU)                              # torch says that there is nothing
        made = tensor.detach().clone()
        if is_cuda(device): self.labels.add(made)
        else: self.labels.known.pop(made.untyped_storage()._cdata, None)
        return made

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function == torch.Tensor.device.__get__: return CUDA if args[0] in self.labels else function(*args)
        if function == torch.Tensor.is_cuda.__get__: return args[0] in self.labels
        kwargs.pop("pin_memory", None)
        if self.capturing and function in (torch.Tensor.tolist, torch.tensor): raise RuntimeError(f"{REFUSED}: {function.__name__}")
        if function in AWAY and args[0] in self.labels:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor first.")
        if function is torch.Tensor.cpu: return self.moved(args[0], "cpu")
        if function is torch.Tensor.cuda: return self.moved(args[0], "cuda")
        if function is torch.Tensor.to: return self.to(*args, **kwargs)
        if is_cuda(kwargs.get("device")):
            kwargs["device"] = CPU
            made = function(*args, **kwargs)
            for x in tensors(made): self.labels.add(x)
            return made
        return function(*args, **kwargs)

    def to(self, tensor, *args, **kwargs):
        "`Tensor.to` in all its forms."
        other = next((x for x in args if isinstance(x, torch.Tensor)), kwargs.get("other"))
        device = kwargs.pop("device", None)
        if other is not None: device = CUDA if other in self.labels else CPU
        for each in args:
            if isinstance(each, torch.Tensor): kwargs["dtype"] = each.dtype
            elif isinstance(each, str | torch.device): device = each
            elif isinstance(each, torch.dtype): kwargs["dtype"] = each             # what is left says whether to wait
        if device is not None and torch.device(device).type == "meta": return torch.Tensor.to(tensor, device, **kwargs)
        made = self.moved(tensor, device)
        return torch.Tensor.to(made, **kwargs) if kwargs else made
