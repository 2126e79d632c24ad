"""Environments of other frameworks, whose tasks are dictionaries, indices or contexts.

Each function makes one of ours of one of theirs, in a function of the user's that a config names,
`env: {name: "my_module:make"}`; they import nothing of the other framework.
"""

from metarl.envs.adapters.contexts import from_contexts
from metarl.envs.adapters.indexed_tasks import from_task_indices
from metarl.envs.adapters.sampled_tasks import from_sample_tasks

__all__ = ["from_contexts", "from_sample_tasks", "from_task_indices"]
