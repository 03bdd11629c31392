"""The product's code; rooms may import only downwards (ARCHITECTURE.md).

Importing it says how long idle threads spin and in what way torch and Arrow take memory, before these libraries are
loaded, which read it only then.
"""

import os

# GNU OpenMP, torch's threads: how long a thread spins before it sleeps. By default it spins nearly for ever, and two
# stages on two cores took six times the processor time (6.5 s against 1.1 s per batch of the backbone's training);
# never spinning makes an undisturbed epoch of the protocol model half as slow again.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
# OpenBLAS, numpy's threads: they spin too after a product, and torch shared the cores with them: its products right
# after one of numpy's ran at 140 GFLOP/s, at 185 with this.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
# torch's large tensors: pages of 2 MiB. What a step of training takes and gives back costs a page fault per 4 KiB
# otherwise: 20 steps of the backbone's training took 3.4 to 3.9 s with it, 4.2 to 4.4 s without.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# Arrow: takes memory from the system's own allocator, which gives it back; its default one keeps what reading a
# table took, 20 MB for the columns that mining reads of 200,000 rows.
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
