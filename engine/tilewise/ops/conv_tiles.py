"""The universal convolution: a padded image at most, then one matrix product that reads it in place."""

from __future__ import annotations

import numpy as np

from tilewise.ops.conv_problem import Problem, phase_image
from tilewise.ops.linalg import pack_rows
from tilewise.ops.lowering import Lowering, Ref
from tilewise.ops.tiles import Product, emit, image_panels, pack_tiles

TILE_COST = 8
"""What takes a tile from memory and back, in multiplications of each of its vectors."""


def pad_image(b: Lowering, p: Problem, x: Ref) -> Ref:
    """The step that makes `p.image`, or x itself where it serves as it is."""
    if p.in_place:
        return x
    return phase_image(b, x, p.n * p.c, p.size, p.stride, p.image.size, p.image.starts)


def tap_offsets(p: Problem, depth: int) -> np.ndarray:
    """Where each k = (c, tap) of `depth` channels lies, from an image's first float."""
    return (np.arange(depth)[:, None] * p.image.channel + p.image.taps).ravel()


def packed_weights(b: Lowering, p: Problem) -> Ref:
    """w as tiles: packed once for a constant, else by a step of every run."""
    outs, k = p.oc // p.group, p.c // p.group * p.taps
    if p.constant_w:
        form = f"tiles of {p.group} groups"
        return b.packed(1, form, lambda: pack_tiles(b.value(1).reshape(p.group, outs, k)))
    return pack_rows(b, b.input(1), p.group, outs, k, (outs * k, k, 1))


def tile_cost(p: Problem) -> float:
    """Multiplications of a vector that the product takes, or what takes as long: tiles that are left, padding."""
    depth, places = p.c // p.group * p.taps, p.out[1] * p.out[2]
    panels = image_panels(p.out, p.image.size, (places, p.out[2], 1), shift=p.in_place)
    padded = 0 if p.in_place else p.n * p.c * p.image.channel
    return p.n * p.oc * panels.vectors * (depth + TILE_COST) + padded


def tile_conv(b: Lowering, p: Problem, residual: Ref | int) -> None:
    """Any convolution: the padded image, then one matrix product that reads it in place."""
    depth, outs, pixels = p.c // p.group, p.oc // p.group, p.out[0] * p.out[1] * p.out[2]
    weights = packed_weights(b, p)
    y_strides = (p.oc * pixels, pixels, 1)
    emit(
        b,
        Product(
            x=pad_image(b, p, b.input(0)),
            w=weights,
            y=b.output(),
            offsets=tap_offsets(p, depth),
            panels=image_panels(p.out, p.image.size, (p.out[1] * p.out[2], p.out[2], 1), shift=p.in_place),
            rows=outs,
            images=p.n,
            groups=p.group,
            inputs=depth,
            x_strides=(p.c * p.image.channel, depth * p.image.channel),
            w_strides=(0, outs * depth * p.taps),
            y_strides=y_strides,
            bias=b.optional(2),
            residual=residual,
            residual_strides=y_strides,
            activation=p.activation,
        ),
    )
