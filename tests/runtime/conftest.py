"""A small artifact that has everything an artifact can have."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from graphc import target
from graphc.artifact import Artifact, Buffer, Failure, Kernel, constant
from graphc.codegen import llvm
from graphc.codegen.link import link

# scaled = x * scale goes to the arena; out = [scaled + state, state]; then state += 1. Fails with detail -7 at n = 13.
TEXT = """
define i64 @graphc_arena(ptr %sizes) #0 {
  %n = load i64, ptr %sizes
  %bytes = mul i64 %n, 4
  ret i64 %bytes
}

define i64 @graphc_entry(ptr %buffers, ptr %sizes, ptr %arena) #0 {
entry:
  %n = load i64, ptr %sizes
  %x = load ptr, ptr %buffers
  %slot1 = getelementptr ptr, ptr %buffers, i64 1
  %state = load ptr, ptr %slot1
  %slot2 = getelementptr ptr, ptr %buffers, i64 2
  %scale_at = load ptr, ptr %slot2
  %slot3 = getelementptr ptr, ptr %buffers, i64 3
  %out = load ptr, ptr %slot3
  %slot4 = getelementptr ptr, ptr %buffers, i64 4
  %new_state = load ptr, ptr %slot4
  %unlucky = icmp eq i64 %n, 13
  br i1 %unlucky, label %fail, label %head1
fail:
  %detail = getelementptr i64, ptr %sizes, i64 2
  store i64 -7, ptr %detail
  ret i64 1
head1:
  %i = phi i64 [ 0, %entry ], [ %i.next, %body1 ]
  %more1 = icmp slt i64 %i, %n
  br i1 %more1, label %body1, label %between
body1:
  %xp = getelementptr float, ptr %x, i64 %i
  %xv = load float, ptr %xp
  %scale = load float, ptr %scale_at
  %scaled = fmul float %xv, %scale
  %ap = getelementptr float, ptr %arena, i64 %i
  store float %scaled, ptr %ap
  %i.next = add i64 %i, 1
  br label %head1
between:
  %s = load float, ptr %state
  br label %head2
head2:
  %j = phi i64 [ 0, %between ], [ %j.next, %body2 ]
  %more2 = icmp slt i64 %j, %n
  br i1 %more2, label %body2, label %done
body2:
  %aq = getelementptr float, ptr %arena, i64 %j
  %av = load float, ptr %aq
  %sum = fadd float %av, %s
  %op = getelementptr float, ptr %out, i64 %j
  store float %sum, ptr %op
  %j.next = add i64 %j, 1
  br label %head2
done:
  %last = getelementptr float, ptr %out, i64 %n
  store float %s, ptr %last
  %s.next = fadd float %s, 1.0
  store float %s.next, ptr %new_state
  ret i64 0
}
"""


def make(level: str = "x86-64-v2") -> Artifact:
    machine = target.named(level)
    return Artifact(
        image=link(llvm.emit_object(TEXT + llvm.attributes(machine), machine, verify=True)),
        isa=level,
        buffers=(
            Buffer("x", "input", "f32", ("s0",)),
            Buffer("state", "input", "f32", ()),
            Buffer("scale", "constant", "f32", (1,)),
            Buffer("out", "output", "f32", ("s0 + 1",)),
            Buffer("new_state", "output", "f32", (), writes=1),
        ),
        symbols=("s0",),
        arena_bytes=None,
        constants=(constant(np.array([3.0], np.float32)),),
        failures=(Failure("IndexError", "index {detail} is out of bounds", "n5"),),
        kernels=(Kernel("scale", "k0", "x * scale", "s0", "8*s0"),),
        versions=(("llvm", llvm.version()),),
    )


@pytest.fixture(scope="session")
def artifact() -> Artifact:
    return make()


@pytest.fixture(scope="session")
def artifact_for() -> Callable[[str], Artifact]:
    """The artifact made for an ISA level."""
    return make
