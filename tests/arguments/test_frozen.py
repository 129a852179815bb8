"""Configurations and other records of the upper floors stay as they were made, and can be keys."""

import dataclasses
import importlib
import pkgutil

import pytest

import tinygen

FLOORS = ("align", "data", "diffusion", "judges", "models", "nn", "optim", "text")
RECORDS = {
    "tinygen.data.algorithms.Task",
    "tinygen.data.linear_functions.LinearFunctions",
    "tinygen.data.published.Published",
    "tinygen.data.shapes.Scene",
    "tinygen.data.shapes_pairs.Pair",
    "tinygen.models.huggingface.scheduler_steps.DPMSolverScheduler",
    "tinygen.models.huggingface.scheduler_steps.EulerScheduler",
    "tinygen.models.huggingface.scheduler_steps.LevelScheduler",
    "tinygen.models.huggingface.scheduler_steps.Scheduler",
    "tinygen.models.huggingface.scheduler_steps.StepScheduler",
    "tinygen.models.language.bart.BARTConfig",
    "tinygen.models.language.bert.BERTConfig",
    "tinygen.models.language.gpt.GPTConfig",
    "tinygen.models.language.llama.LlamaConfig",
    "tinygen.models.language.t5.T5Config",
    "tinygen.models.language.transformer.TransformerConfig",
    "tinygen.models.pictures.autoencoder.AutoencoderConfig",
    "tinygen.models.pictures.controlnet.ControlNetConfig",
    "tinygen.models.pictures.unet.UNetConfig",
    "tinygen.models.text_to_image.clip_encoders.TowerConfig",
    "tinygen.models.text_to_image.text_encoder.TextEncoderConfig",
    "tinygen.nn.rope.RopeScaling",
    "tinygen.text.ngram.Level",
    "tinygen.text.scaling_laws.PowerLaw",
    "tinygen.text.scaling_laws.ScalingLaw",
}


def dataclasses_of_the_floors():
    for path in pkgutil.walk_packages(tinygen.__path__, "tinygen."):
        if path.name.split(".")[1] in FLOORS:
            module = importlib.import_module(path.name)
            for name, thing in vars(module).items():
                if dataclasses.is_dataclass(thing) and thing.__module__ == module.__name__:
                    yield f"{thing.__module__}.{name}"


def test_these_are_the_records():
    assert set(dataclasses_of_the_floors()) == RECORDS


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_no_field_can_be_replaced(name):
    module, _, kind = name.rpartition(".")
    record = object.__new__(getattr(importlib.import_module(module), kind))
    for field in dataclasses.fields(record):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(record, field.name, None)
