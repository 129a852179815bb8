"""Layers: modules with parameters, built from the ops. A layer that draws random numbers, for its initial
weights or for dropout, takes the generator as an argument: `Linear(3, 4, rng=np.random.default_rng(0))`."""

from tinygen.nn import init
from tinygen.nn.attention import CrossAttention, KVCache, MultiHeadAttention
from tinygen.nn.containers import ModuleList, Sequential
from tinygen.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from tinygen.nn.dropout import Dropout
from tinygen.nn.grouped_attention import GroupedQueryAttention
from tinygen.nn.linear import Embedding, Linear
from tinygen.nn.module import Buffer, Module, Parameter
from tinygen.nn.norm import BatchNorm, GroupNorm, LayerNorm, RMSNorm
from tinygen.nn.recurrent import GRU, LSTM, RNN
from tinygen.nn.residual import Downsample, ResBlock, Upsample
from tinygen.nn.rope import RopeScaling, rotary
from tinygen.nn.spatial import SpatialAttention, SpatialTransformer
from tinygen.nn.spectral_norm import SpectralNorm
from tinygen.nn.timesteps import timestep_embedding
from tinygen.nn.transformer import MLP, Block, SwiGLU

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "RNN",
    "BatchNorm",
    "Block",
    "Buffer",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "CrossAttention",
    "Downsample",
    "Dropout",
    "Embedding",
    "GroupNorm",
    "GroupedQueryAttention",
    "KVCache",
    "LayerNorm",
    "Linear",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "ResBlock",
    "RopeScaling",
    "Sequential",
    "SpatialAttention",
    "SpatialTransformer",
    "SpectralNorm",
    "SwiGLU",
    "Upsample",
    "init",
    "rotary",
    "timestep_embedding",
]
