"""ViTCoP's formulas written down with loops over tokens and clusters."""

from __future__ import annotations

import math

import torch


def cluster_by_loops(x, p, share):
    n = len(x)
    d = torch.zeros(n, n)
    for i in range(n):
        for j in range(n):
            if i != j:
                d[i, j] = math.sqrt(float(((x[i] - x[j]) ** 2).sum()) + 1e-8)
    rho = torch.exp(-((d / 8) ** 2)).sum(1)
    delta, parent = torch.full((n,), math.inf), [0] * n
    for i in range(n):
        for j in range(n):
            close = float((p[i] - p[j]).norm()) <= 0.6
            if j != i and rho[j] >= rho[i] and close and d[i, j] < delta[i]:
                delta[i], parent[i] = d[i, j], j
    gamma = (delta * rho).tolist()
    ranked = sorted(range(n), key=lambda i: (-gamma[i], i))[: max(1, int(share * n))]
    labels = {token: label for label, token in enumerate(ranked)}
    changed = True
    while changed:
        changed = False
        for i in range(n):
            if i not in labels and parent[i] in labels:
                labels[i], changed = labels[parent[i]], True
    return [labels.get(i, len(ranked)) for i in range(n)]


def groups_by_loops(norms, labels, tokens):
    """Groups as (members, merged), and the position of each."""
    n = len(norms)
    names = sorted(set(labels))
    members = {c: [i for i in range(n) if labels[i] == c] for c in names}
    sums = {c: sum(norms[i] for i in members[c]) for c in names}
    order = sorted(names, key=lambda c: (sums[c], c))
    if len(names) > tokens:
        rest = sorted(i for c in order[tokens - 1 :] for i in members[c])
        return [(members[c], True) for c in order[: tokens - 1]] + [(rest, True)]
    free, wanted = n - len(names), tokens - len(names)
    quota = {
        c: min(
            int(torch.round(torch.tensor((len(members[c]) - 1) / max(free, 1) * wanted))),
            len(members[c]) - 1,
        )
        for c in names
    }
    missing = wanted - sum(quota.values())
    for c in order if missing > 0 else sorted(names, key=lambda c: (-sums[c], c)):
        if missing > 0 and quota[c] < len(members[c]) - 1:
            quota[c], missing = quota[c] + 1, missing - 1
        if missing < 0 and quota[c] > 0:
            quota[c], missing = quota[c] - 1, missing + 1
    groups = []
    for c in names:
        best = sorted(members[c], key=lambda i: (norms[i], i))[: quota[c]]
        groups += [([i], False) for i in best]
        groups.append((sorted(set(members[c]) - set(best)), True))
    return groups
