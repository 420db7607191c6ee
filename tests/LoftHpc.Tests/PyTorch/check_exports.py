"""Evaluates folders that lofthpc exported, in one process, by their own model.py; prints one line of JSON for each.

usage: check_exports.py FOLDER...     (needs torch)
"""
import contextlib
import importlib.util
import io
import json
import os
import runpy
import sys

import torch


class Program:
    def __reduce__(self):
        return os.mkdir, (os.path.join(folders[0], "executed"),)


folders = sys.argv[1:]
torch.set_num_threads(1)
for number, folder in enumerate(folders):
    spec = importlib.util.spec_from_file_location("model%d" % number, os.path.join(folder, "model.py"))
    model = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = model
    spec.loader.exec_module(model)
    files = [os.path.join(folder, name) for name in ("test-images-idx4-ubyte", "test-labels-idx1-ubyte")]
    images, labels = model.read_images(files)
    network = model.load()
    hits, loss = model.evaluate(network, images, labels, batch=7)
    with torch.no_grad():
        logits = network(model.normalise(images))
    found = {"hits": hits, "loss": loss, "logits": logits.tolist(), "normalised": float(model.normalise(images)[0, 0, 0, 0])}

    # What a user of DataParallel would save.
    parallel = torch.nn.DataParallel(network).state_dict()
    assert all(name.startswith("module.") for name in parallel)
    model.write_safetensors(parallel, os.path.join(folder, "parallel.safetensors"))

    # And by torch.save, with weights in another order in memory.
    torch.save(network.to(memory_format=torch.channels_last).state_dict(), os.path.join(folder, "saved.pt"))
    if number == 0:
        torch.save(network, os.path.join(folder, "model.pt"))
        torch.save({"state_dict": network.state_dict(), "epoch": 3}, os.path.join(folder, "checkpoint.pt"))
        torch.save({"conv1.weight": Program()}, os.path.join(folder, "program.pt"))
        torch.save(network.state_dict(), os.path.join(folder, "old.pt"), _use_new_zipfile_serialization=False)
        torch.save(network.half().state_dict(), os.path.join(folder, "half.pt"))

    # The same images in other files.
    for others in (["batch.bin"], ["images.gz", "labels.gz"]):
        others = [os.path.join(folder, name) for name in others]
        if os.path.exists(others[0]):
            same, classes = model.read_images(others)
            found[os.path.basename(others[0])] = bool(torch.equal(same, images) and torch.equal(classes, labels))

    output = io.StringIO()
    sys.argv = ["model.py"] + files
    with contextlib.redirect_stdout(output):
        runpy.run_path(os.path.join(folder, "model.py"), run_name="__main__")
    found["output"] = output.getvalue()
    print(json.dumps(found))
